// Distances on the float32 units: exact in float32, any number of classes.
//
// A block of 256 threads makes a 128 x 128 patch, 8 x 8 pairs a thread.  With sqrt(p) >= 2^-62
// the product of two affinities is a normal float32, so one log2 serves two samples.  Shared
// memory is a ring of stages filled by asynchronous copies.
//
// Built twice: INPCA_REDO=0 makes every patch; INPCA_REDO=1 walks the list that the tensor
// kernel left behind and adds only the pairs whose bit is set in the mask, clearing it.
#include "ptx.cuh"
#include "split.cuh"
#include "tile.cuh"

constexpr int RING = 3;
constexpr int BLOCKS_PER_SAMPLE = CLASSES_PADDED / CLASS_BLOCK;
// Samples of one stage: few classes share a stage, many need several stages a sample.
constexpr int STAGE_SAMPLES =
    BLOCKS_PER_SAMPLE > 1 ? 1 : CLASSES >= 10 ? 2 : CLASSES >= 5 ? 4 : 8;
constexpr int STAGE_ROWS = STAGE_SAMPLES * CLASS_BLOCK;
constexpr int STAGE_FLOATS = STAGE_ROWS * 2 * TILE;  // each row: 128 row models, 128 column ones
#ifdef INPCA_SHARED_BYTES
static_assert(RING * STAGE_FLOATS * 4 == INPCA_SHARED_BYTES, "the caller counts it otherwise");
#endif
constexpr int STAGES_PER_PAIR = BLOCKS_PER_SAMPLE > 1 ? 2 * BLOCKS_PER_SAMPLE : 1;

// Copies stage `stage` of both sides, 16 bytes a thread and turn.
__device__ __forceinline__ void load_stage(float* to, const float* rows, int row_stride,
                                           const float* cols, int col_stride, int stage) {
    const int chunk = threadIdx.x % 64;  // 32 chunks of the row side, then 32 of the columns
    const bool left = chunk < 32;
    const float* from = left ? rows + 4 * chunk : cols + 4 * (chunk - 32);
    const int stride = left ? row_stride : col_stride;
#pragma unroll
    for (int i = 0; i < (STAGE_ROWS + 3) / 4; ++i) {
        const int k = threadIdx.x / 64 + 4 * i;
        if (STAGE_ROWS % 4 == 0 || k < STAGE_ROWS)
            cp_async16(to + k * 2 * TILE + 4 * chunk,
                       from + (static_cast<long long>(stage) * STAGE_ROWS + k) * stride);
    }
}

// The 8 floats of one thread in a row of 128: two quads, so that a warp reads without conflict.
__device__ __forceinline__ void read_eight(float (&to)[8], const float* from, int apart) {
    const float4 a = *reinterpret_cast<const float4*>(from);
    const float4 b = *reinterpret_cast<const float4*>(from + apart);
    to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
    to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
}

// Where a thread's pairs lie: warps 4 x 2 over the patch, lanes 4 x 8 over a warp's 32 x 64.
struct Place {
    int row, col;
    __device__ __forceinline__ explicit Place(int thread) {
        const int warp = thread / 32, lane = thread % 32;
        row = warp / 2 * 32 + lane / 8 * 4;
        col = warp % 2 * 64 + lane % 8 * 4;
    }
    __device__ __forceinline__ int row_of(int i) const { return row + (i < 4 ? i : 12 + i); }
    __device__ __forceinline__ int col_of(int j) const { return col + (j < 4 ? j : 28 + j); }
};

// affinity += the products of CLASS_BLOCK classes; `fresh` starts a new sample (known while
// compiling where a sample is one block, else one select in 16 classes).
__device__ __forceinline__ void add_classes(float (&affinity)[8][8], const float* shared,
                                            const Place& place, bool fresh) {
#pragma unroll
    for (int c = 0; c < CLASS_BLOCK; ++c) {
        float p[8], q[8];
        read_eight(p, shared + c * 2 * TILE + place.row, 16);
        read_eight(q, shared + c * 2 * TILE + TILE + place.col, 32);
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
            for (int j = 0; j < 8; ++j)
                affinity[i][j] = (fresh && c == 0) ? p[i] * q[j]
                                                   : fmaf(p[i], q[j], affinity[i][j]);
    }
}

__device__ __forceinline__ void add_log(float (&sum)[8][8], const float (&first)[8][8],
                                        const float (&second)[8][8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) sum[i][j] += fast_log2(first[i][j] * second[i][j]);
}

// Adds the sums to the output and starts them again; `mask` null means every pair.
__device__ __forceinline__ void flush(float (&sum)[8][8], int* out, int tile_size,
                                      const uint32_t* mask, double units) {
    const Place place(opaque(threadIdx.x));
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const int row = place.row_of(i), col = place.col_of(j);
            const bool wanted = !mask || (mask[row * MASK_WORDS + col / 32] >> col % 32 & 1u);
            if (wanted)
                atomicAdd(&out[static_cast<long long>(row) * tile_size + col],
                          to_units(static_cast<double>(sum[i][j]), units));
            sum[i][j] = 0.0f;
        }
}

// One patch over the whole slab.
__device__ __forceinline__ void make_patch(float* ring, const float* rows, int row_stride,
                                           const float* cols, int col_stride, int n_samples,
                                           int flush_every, int* out, int tile_size,
                                           const uint32_t* mask, double units) {
    const int stages = n_samples / STAGE_SAMPLES * BLOCKS_PER_SAMPLE;
    const Place place(threadIdx.x);
    float sum[8][8], first[8][8], second[8][8];
#pragma unroll
    for (int i = 0; i < 64; ++i) sum[i / 8][i % 8] = 0.0f;
#pragma unroll
    for (int s = 0; s < RING - 1; ++s) {
        if (s < stages) load_stage(ring + s * STAGE_FLOATS, rows, row_stride, cols, col_stride, s);
        cp_async_commit();
    }
    int slot = RING - 1, stage = 0;
    while (stage < stages) {
        const int pause = min(stages, stage + flush_every / STAGE_SAMPLES * BLOCKS_PER_SAMPLE);
        for (; stage < pause; stage += STAGES_PER_PAIR) {
            for (int s = 0; s < (BLOCKS_PER_SAMPLE > 1 ? 1 : STAGE_SAMPLES); s += 2) {
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    float(&target)[8][8] = half == 0 ? first : second;
#pragma unroll 1
                    for (int block = 0; block < BLOCKS_PER_SAMPLE; ++block) {
                        // A stage of its own for every block of classes, or for all samples of it.
                        if (BLOCKS_PER_SAMPLE > 1 || (s == 0 && half == 0)) {
                            const int now = stage + half * BLOCKS_PER_SAMPLE + block;
                            cp_async_wait<RING - 2>();
                            __syncthreads();
                            slot = slot == RING - 1 ? 0 : slot + 1;
                            const int ahead = now + RING - 1;
                            if (ahead < stages)
                                load_stage(ring + (slot == 0 ? RING - 1 : slot - 1) * STAGE_FLOATS,
                                           rows, row_stride, cols, col_stride, ahead);
                            cp_async_commit();
                        }
                        const int sample = BLOCKS_PER_SAMPLE > 1 ? 0 : s + half;
                        const float* shared =
                            ring + slot * STAGE_FLOATS + sample * CLASS_BLOCK * 2 * TILE;
                        add_classes(target, shared, place, block == 0);
                    }
                }
                add_log(sum, first, second);
            }
        }
        flush(sum, out, tile_size, mask, units);
    }
    cp_async_wait<0>();
    __syncthreads();  // nobody refills the ring for the next patch while others still read
}

// rows, cols (n_samples, C_padded, stride) float32, the planes of prepare_slab from sample 0 on;
// strides in models, multiples of 4; n_samples a multiple of 8.  tiles (., 2): store tile
// indices; out: their entries, in the same order.  flush_every: samples summed in float32
// before they join the integers.
// Redo: `lost` lists patches as the tensor kernel numbers them, lost_count their number,
// `masks` (patches, 128, 4) the pairs.
#if INPCA_REDO
extern "C" __global__ void __launch_bounds__(256, 1)
ffma_redo(const float* rows, int row_stride, int row_first, const float* cols, int col_stride,
          int col_first, int n_samples, int flush_every, const int* tiles, int tile_size,
          int* out, double units, const int* lost, const int* lost_count, uint32_t* masks,
          unsigned long long* redone) {
#else
extern "C" __global__ void __launch_bounds__(256, 1)
ffma_tiles(const float* rows, int row_stride, int row_first, const float* cols, int col_stride,
           int col_first, int n_samples, int flush_every, const int* tiles, int tile_size,
           int* out, double units) {
#endif
    DYNAMIC_SHARED(shared);
    float* ring = reinterpret_cast<float*>(shared);
#if INPCA_REDO
    for (int entry = blockIdx.x; entry < *lost_count; entry += gridDim.x) {
        const int index = lost[entry];
        uint32_t* mask = masks + static_cast<long long>(index) * TILE * MASK_WORDS;
#else
    {
        const int index = blockIdx.x;
        uint32_t* mask = nullptr;
#endif
        const Patch patch = find_patch<TILE>(index, tiles, tile_size, row_first, col_first);
        make_patch(ring, rows + patch.row, row_stride, cols + patch.col, col_stride, n_samples,
                   flush_every, out + patch.at, tile_size, mask, units);
#if INPCA_REDO
        for (int i = threadIdx.x; i < TILE * MASK_WORDS; i += blockDim.x) mask[i] = 0;
        if (threadIdx.x == 0) atomicAdd(redone, 1ULL);
#endif
    }
}
