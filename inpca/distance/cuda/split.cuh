// How a prediction is split for the tensor cores, and which products make an affinity.
//
// x = 2^15 sqrt(p) = high + low, two fp16 numbers: 22 bits, exact below to 2^-25.  Then
// x_u x_v = high high + high low + low high to 2^-22, so C classes are 3 C products.  They are
// laid out in matrices of 8 columns (4 pairs of classes).  A whole group of 8 classes needs two
// matrices, `high` and `low`, each used twice from registers: three products from two loads.
// Class pairs left over are packed products first, (high, high, low) of the row side against
// (high, low, high) of the column side; C = 10 is one group and one such matrix: K = 32.
#pragma once
#include "ptx.cuh"

constexpr int CLASSES = INPCA_CLASSES;
// Classes of one float32 plane block (see ffma.cu).
constexpr int CLASS_BLOCK = CLASSES <= 20 ? CLASSES : 16;
constexpr int CLASSES_PADDED = (CLASSES + CLASS_BLOCK - 1) / CLASS_BLOCK * CLASS_BLOCK;

// Up to 20 classes the tensor kernel holds a whole sample in registers; above, it takes blocks of
// two groups, all of them whole.
constexpr bool WIDE = CLASSES > 20;
constexpr int CLASS_PAIRS = (CLASSES + 1) / 2;
// Three pairs left over cost three matrices either way: then they are a whole group.
constexpr int SPLIT_GROUPS = WIDE ? (CLASSES + 15) / 16 * 2 : (CLASS_PAIRS + 1) / 4;
constexpr int SPLIT_REST = WIDE || CLASS_PAIRS % 4 == 3 ? 0 : CLASS_PAIRS % 4;
constexpr int SPLIT_PLANES = 2 * SPLIT_GROUPS + 2 * SPLIT_REST;  // stored per prediction

// What one block of classes reads and multiplies: the whole sample, or two groups.
constexpr int SPLIT_BLOCKS = WIDE ? SPLIT_GROUPS / 2 : 1;
constexpr int BLOCK_GROUPS = SPLIT_GROUPS / SPLIT_BLOCKS;
constexpr int SPLIT_LOADS = 2 * BLOCK_GROUPS + SPLIT_REST;  // matrices one side of a tile reads
constexpr int SPLIT_PRODUCTS = 3 * BLOCK_GROUPS + SPLIT_REST;
constexpr int SPLIT_STEPS = (SPLIT_PRODUCTS + 1) / 2;       // mma instructions, K = 16 each

// Product p multiplies matrix left(p) of the row side by right(p) of the column side; past the
// last product, any matrix.  The small products come first, so that only the last sum rounds at
// full size.
__host__ __device__ constexpr int split_left(int p) {
    return p < SPLIT_LOADS ? p : p < SPLIT_PRODUCTS ? 2 * (p - SPLIT_LOADS) : 0;
}
__host__ __device__ constexpr int split_right(int p) {
    return p < 2 * BLOCK_GROUPS ? p ^ 1 : split_left(p);
}

// The stored plane of matrix `load` of either side.
__host__ __device__ constexpr int left_plane(int load) { return load; }
__host__ __device__ constexpr int right_plane(int load) {
    return load < 2 * BLOCK_GROUPS ? load : load + SPLIT_REST;
}

__device__ __forceinline__ uint32_t pack(uint16_t first, uint16_t second) {
    return static_cast<uint32_t>(first) | static_cast<uint32_t>(second) << 16;
}

// Two neighbouring classes, split: their high halves in one word, their low halves in another.
__device__ __forceinline__ void split_pair(float first, float second, uint32_t& high,
                                           uint32_t& low) {
    first *= 32768.0f, second *= 32768.0f;
    const uint16_t a = half_bits(first), b = half_bits(second);
    high = pack(a, b);
    low = pack(half_bits(first - half_value(a)), half_bits(second - half_value(b)));
}

// Four words as one 16-byte store; `at` counts 16-byte entries.
__device__ __forceinline__ void store_quad(uint32_t* to, long long at, const uint32_t* from) {
    uint4 quad;
    quad.x = from[0], quad.y = from[1], quad.z = from[2], quad.w = from[3];
    reinterpret_cast<uint4*>(to)[at] = quad;
}
