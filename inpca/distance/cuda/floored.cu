// Contributions that the floor decides: a pair and a sample count where both models have entries
// at the floor and the classes in which neither has one overlap by 2^-62 at most (the rule of
// kernels_numba.count_floored).
//
// A class is *firm* where sqrt(p) > 2^-31: if one is firm for both models they overlap by more
// than 2^-62.  So almost every pair is decided by one AND of the firm classes, 32 to a word; models
// without an entry at the floor have every bit set, and meet every other model.
#include "ptx.cuh"
#include "split.cuh"
#include "tile.cuh"

constexpr float FLOOR = 2.168404344971009e-19f;  // 2^-62
constexpr float FIRM = 4.656612873077393e-10f;   // 2^-31
constexpr int FIRM_WORDS = (CLASSES + 31) / 32;
#ifdef INPCA_FIRM_WORDS
static_assert(FIRM_WORDS == INPCA_FIRM_WORDS, "the caller counts the words otherwise");
#endif

// planes (n_samples, C_padded, stride) float32, those of prepare_slab.  firm (n_samples,
// FIRM_WORDS, stride).  floored (n_samples / 32, stride / 128), zero before: the samples in which
// one of 128 models has an entry at the floor, one bit a sample.
// Grid: x over models, y over real samples.
extern "C" __global__ void __launch_bounds__(128)
mark_floored(const float* planes, int stride, uint32_t* firm, uint32_t* floored) {
    const int model = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    const int n = static_cast<int>(blockIdx.y);
    if (model >= stride) return;
    const float* at = planes + static_cast<long long>(n) * CLASSES_PADDED * stride + model;
    bool at_floor = false;
    for (int c = 0; c < CLASSES; ++c)
        at_floor = at_floor || at[static_cast<long long>(c) * stride] <= FLOOR;
    for (int word = 0; word < FIRM_WORDS; ++word) {
        uint32_t bits = at_floor ? 0u : ~0u;
        for (int c = 32 * word; at_floor && c < CLASSES && c < 32 * word + 32; ++c)
            if (at[static_cast<long long>(c) * stride] > FIRM) bits |= 1u << (c - 32 * word);
        firm[(static_cast<long long>(n) * FIRM_WORDS + word) * stride + model] = bits;
    }
    if (at_floor) atomicOr(&floored[n / 32 * (stride / TILE) + model / TILE], 1u << n % 32);
}

// One side of a patch.
struct Side {
    const float* planes;
    const uint32_t* firm;
    int stride;

    __device__ __forceinline__ float root(int n, int c, int model) const {
        return planes[(static_cast<long long>(n) * CLASSES_PADDED + c) * stride + model];
    }
    __device__ __forceinline__ uint32_t word(int n, int word, int model) const {
        return firm[(static_cast<long long>(n) * FIRM_WORDS + word) * stride + model];
    }
};

// Whether the floor decides the affinity of models u and v in sample n.
__device__ __forceinline__ bool is_floored(const Side& rows, const Side& cols, int n, int u,
                                           int v) {
    for (int word = 0; word < FIRM_WORDS; ++word)
        if (rows.word(n, word, u) & cols.word(n, word, v)) return false;
    double overlap = 0.0;
    for (int c = 0; c < CLASSES; ++c) {
        const float p = rows.root(n, c, u), q = cols.root(n, c, v);
        if (p > FLOOR && q > FLOOR) overlap += static_cast<double>(p) * static_cast<double>(q);
    }
    return overlap <= static_cast<double>(FLOOR);
}

// counts (tiles) += the contributions that the floor decides; of a tile on the diagonal those
// above it.  A block of 256 threads takes a 128 x 128 patch, half a column a thread.
extern "C" __global__ void __launch_bounds__(256)
count_floored(const float* row_planes, const uint32_t* row_firm, const uint32_t* row_floored,
              int row_stride, int row_first, const float* col_planes, const uint32_t* col_firm,
              const uint32_t* col_floored, int col_stride, int col_first, int n_samples,
              const int* tiles, int tile_size, unsigned long long* counts) {
    const int index = static_cast<int>(blockIdx.x);
    const Patch patch = find_patch<TILE>(index, tiles, tile_size, row_first, col_first);
    const int across = tile_size / TILE, tile = index / (across * across);
    const bool upper = tiles[2 * tile] == tiles[2 * tile + 1];
    const Side rows = {row_planes, row_firm, row_stride}, cols = {col_planes, col_firm, col_stride};
    const int thread = static_cast<int>(threadIdx.x);
    const int v = patch.col + thread % TILE, first = patch.row + thread / TILE * (TILE / 2);
    int end = first + TILE / 2;
    if (upper) end = min(end, v + col_first - row_first);
    unsigned long long count = 0;
    for (int start = 0; start < n_samples; start += 32) {
        uint32_t both = row_floored[start / 32 * (row_stride / TILE) + patch.row / TILE] &
                        col_floored[start / 32 * (col_stride / TILE) + patch.col / TILE];
        for (; both; both &= both - 1) {
            const int n = start + __ffs(static_cast<int>(both)) - 1;
            for (int u = first; u < end; ++u) count += is_floored(rows, cols, n, u, v) ? 1 : 0;
        }
    }
    if (count) atomicAdd(&counts[tile], count);
}
