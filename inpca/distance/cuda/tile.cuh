// What the tile kernels share: where a block works, and how it adds to the resident output.
//
// The output is a list of T x T store tiles.  While slabs stream past, each entry is a 32-bit
// integer: -sum_n log2 a_uv[n] in units of 1/`units` bit.  Integers make the sum over slabs
// exact and independent of their order, and resolve 3e-8 nats whatever N is, where a float32
// running sum of 50,000 samples would round each slab to 1e-7 of the total.
#pragma once
#include "ptx.cuh"

constexpr int TILE = 128;             // pairs per side of the tile that the lost list speaks of
constexpr int MASK_WORDS = TILE / 32;  // a lost mask is TILE rows of these, one bit a pair

// One 128-row by COLS-column part of the output: which models, and where its entries lie.
struct Patch {
    int row, col;    // first model of either side, counted within the slab that holds it
    long long at;    // index of its first entry in the output
};

// Patch number `index` of a launch: store tiles in list order, patches row by row within.
template <int COLS>
__device__ __forceinline__ Patch find_patch(int index, const int* tiles, int tile_size,
                                            int row_first, int col_first) {
    const int across = tile_size / COLS;
    const int per_tile = across * (tile_size / TILE);
    const int tile = index / per_tile, rest = index % per_tile;
    const int row = rest / across * TILE, col = rest % across * COLS;
    Patch patch;
    patch.row = tiles[2 * tile] * tile_size + row - row_first;
    patch.col = tiles[2 * tile + 1] * tile_size + col - col_first;
    patch.at = (static_cast<long long>(tile) * tile_size + row) * tile_size + col;
    return patch;
}

// The number, among 128 x 128 patches, of the one that begins at column `col` of patch `index`
// of a launch with COLS columns a patch: what lost lists and masks count in.
template <int COLS>
__device__ __forceinline__ int find_lost(int index, int col, int tile_size) {
    const int across = tile_size / COLS;
    const int row = index / across;  // a row of patches, over all tiles of the launch
    return row * (tile_size / TILE) + index % across * (COLS / TILE) + col / TILE;
}

// -bits in output units, rounded once.  The cap keeps a sum that is -inf (the engine refuses
// such input before, so never a wanted number) from wrapping round.
__device__ __forceinline__ int to_units(double bits, double units) {
    const double value = -bits * units;
    return static_cast<int>(rint(value < 2147483647.0 ? value : 2147483647.0));
}
