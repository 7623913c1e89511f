// Distances on the tensor cores, to float32-like accuracy, any number of classes.
//
// A warp makes 64 x 64 pairs (64 x 32 of many classes).  Per sample it multiplies split
// predictions (split.cuh) with mma.m16n8k16: an affinity times 2^30 = 2^15 x 2^15, in float32.
// Each pair keeps a running product; after 8 samples its exponent moves, as an integer, to a
// counter, and the mantissa goes back to 2^-114: the next 8 affinities bring it to 2^126 at most.
// No log is taken until the end of the slab; nothing but the mantissa's products is ever rounded.
//
// An fp16 half cannot hold sqrt(p) below 2^-40, so an affinity below 2^-24 would be less exact
// than float32.  A thread that sees one marks those of its pairs as lost whose product of 8
// samples is that small: they are left out here and added by ffma_redo.
#include "ptx.cuh"
#include "split.cuh"
#include "tile.cuh"

constexpr int WARPS_DOWN = 2, WARPS_ACROSS = INPCA_WARPS_ACROSS;
constexpr int THREADS = 32 * WARPS_DOWN * WARPS_ACROSS;
constexpr int I_TILES = 4, J_TILES = WIDE ? 4 : 8;  // m16n8 tiles of a warp
constexpr int WARP_COLS = 8 * J_TILES, COLS = WARP_COLS * WARPS_ACROSS;
// A stage of the ring holds two samples, or one block of classes of one sample.
constexpr int GROUP = 8, RING = 3, STAGE_BLOCKS = WIDE ? 1 : 2;
// The row side of its blocks, then the column side.
constexpr int LEFT_BYTES = TILE * SPLIT_LOADS * 16, RIGHT_BYTES = COLS * SPLIT_LOADS * 16;
constexpr int STAGE_BYTES = STAGE_BLOCKS * (LEFT_BYTES + RIGHT_BYTES);
// Sums of exponents in shared memory: 16 bits for each pair of a thread.
constexpr int EXPONENT_QUADS = I_TILES * J_TILES / 2;
constexpr int EXPONENT_BYTES = EXPONENT_QUADS * 16 * THREADS;
constexpr int START = (127 - 114) << 23;         // the bits of 2^-114
constexpr int FULL_EXPONENT = 127 - 114 + 240;   // what 8 affinities of 1 leave
constexpr int SMALLEST = (127 + 30 - 24) << 23;  // the smallest affinity to trust, 2^-24
constexpr int SMALLEST_PRODUCT = (FULL_EXPONENT - 24) << 23;
static_assert(COLS % TILE == 0, "patches are whole tiles");
#ifdef INPCA_SHARED_BYTES
static_assert(RING * STAGE_BYTES + EXPONENT_BYTES + 4 * COLS / TILE == INPCA_SHARED_BYTES,
              "the caller counts shared memory otherwise");
#endif

// Copies one side's matrices of one stage, 16 bytes a thread and turn: WIDTH models a plane.
// Two threads share a model where there are twice as many: then each takes one block, or half.
template <int WIDTH, bool RIGHT>
__device__ __forceinline__ void load_side(unsigned char* to, const unsigned char* from,
                                          int stride, int stage) {
    constexpr int PLANES = SPLIT_PLANES / SPLIT_BLOCKS;  // of one block
    constexpr int PARTS = THREADS / WIDTH, TURNS = STAGE_BLOCKS * SPLIT_LOADS / PARTS;
    constexpr int PART_PLANES = STAGE_BLOCKS == PARTS ? PLANES : TURNS;
    const int part = threadIdx.x / WIDTH, model = threadIdx.x % WIDTH;
    const int first = stage * STAGE_BLOCKS * PLANES + part * PART_PLANES;
    from += static_cast<long long>(first) * stride + model * 16;
#pragma unroll
    for (int i = 0; i < TURNS; ++i) {
        const int load = i % SPLIT_LOADS;
        const int plane = i / SPLIT_LOADS * PLANES + (RIGHT ? right_plane(load) : left_plane(load));
        cp_async16(to + ((part * TURNS + i) * WIDTH + model) * 16,
                   from + static_cast<long long>(plane) * stride);
    }
}

// Copies one stage.
__device__ __forceinline__ void load_stage(unsigned char* to, const unsigned char* rows,
                                           int row_bytes, const unsigned char* cols,
                                           int col_bytes, int stage) {
    load_side<TILE, false>(to, rows, row_bytes, stage);
    load_side<COLS, true>(to + STAGE_BLOCKS * LEFT_BYTES, cols, col_bytes, stage);
}

// Where one lane's matrix rows begin, in bytes from the warp's first row in the first matrix.
// A select by table: the compiler makes branches of anything shorter, and keeps them in the loop.
struct Lane {
    int left[SPLIT_STEPS];             // two products of a step, 16 rows of the row side each
    int right[(SPLIT_STEPS + 1) / 2];  // four products of two steps, 8 rows of the columns each

    __device__ __forceinline__ Lane() {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int step = 0; step < SPLIT_STEPS; ++step)
            left[step] = (choose(lane / 16, split_left(2 * step),
                                 split_left(2 * step + 1), 0, 0) *
                              TILE + lane % 16) * 16;
#pragma unroll
        for (int step = 0; step < SPLIT_STEPS; step += 2)
            right[step / 2] = (choose(lane / 8, split_right(2 * step),
                                      split_right(2 * step + 1),
                                      split_right(2 * step + 2),
                                      split_right(2 * step + 3)) *
                                   COLS + lane % 8) * 16;
    }
    __device__ __forceinline__ static int choose(int which, int a, int b, int c, int d) {
        return (a | b << 8 | c << 16 | d << 24) >> 8 * which & 0xff;
    }
};

// One warp's state.  Tile (i, j) of m16n8 holds four pairs a thread, as mma's d does.
struct Pairs {
    float product[I_TILES][J_TILES][4];
    float affinity[I_TILES][J_TILES][4];  // so far, where a sample has several blocks
    int smallest[2];                      // smallest affinity bits since the last look

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < I_TILES; ++i)
#pragma unroll
            for (int j = 0; j < J_TILES; ++j)
#pragma unroll
                for (int k = 0; k < 4; ++k) {
                    product[i][j][k] = bits_float(START);
                    affinity[i][j][k] = 0.0f;
                }
        look_again();
    }

    __device__ __forceinline__ void look_again() { smallest[0] = smallest[1] = 0x7f000000; }

    // Multiplies one block of classes: the affinities of a sample, or a part of their sum.
    // Matrices arrive in the order in which mma wants its registers, some of them twice: that
    // costs less than moving registers.
    __device__ __forceinline__ void add_block(const unsigned char* left,
                                              const unsigned char* right, const Lane& lane) {
        uint32_t a[SPLIT_STEPS][I_TILES][4];
#pragma unroll
        for (int step = 0; step < SPLIT_STEPS; ++step)
#pragma unroll
            for (int i = 0; i < I_TILES; ++i)
                ldmatrix_x4(a[step][i], left + lane.left[step] + 16 * 16 * i);
#pragma unroll
        for (int j = 0; j < J_TILES; ++j) {
            uint32_t b[SPLIT_STEPS + 1][2];
#pragma unroll
            for (int step = 0; step < SPLIT_STEPS; step += 2) {
                uint32_t both[4];
                ldmatrix_x4(both, right + lane.right[step / 2] + 8 * 16 * j);
                b[step][0] = both[0], b[step][1] = both[1];
                b[step + 1][0] = both[2], b[step + 1][1] = both[3];
            }
            if (SPLIT_PRODUCTS % 2) b[SPLIT_STEPS - 1][1] = 0;  // no last product: times zero
#pragma unroll
            for (int i = 0; i < I_TILES; ++i) {
                float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
                for (int step = 0; step < SPLIT_STEPS; ++step)
                    mma_m16n8k16(d, a[step][i], b[step], d);
                if (WIDE) {
                    // Added outside the tensor cores, which round towards zero.
#pragma unroll
                    for (int k = 0; k < 4; ++k) affinity[i][j][k] += d[k];
                } else {
                    absorb(i, j, d);
                }
            }
        }
    }

    // Takes the affinities of one sample into the products.
    __device__ __forceinline__ void absorb(int i, int j, const float (&d)[4]) {
        smallest[0] = min3(smallest[0], float_bits(d[0]), float_bits(d[1]));
        smallest[1] = min3(smallest[1], float_bits(d[2]), float_bits(d[3]));
#pragma unroll
        for (int k = 0; k < 4; ++k) product[i][j][k] *= d[k];
    }

    __device__ __forceinline__ void absorb_sum() {
#pragma unroll
        for (int i = 0; i < I_TILES; ++i)
#pragma unroll
            for (int j = 0; j < J_TILES; ++j) {
                absorb(i, j, affinity[i][j]);
#pragma unroll
                for (int k = 0; k < 4; ++k) affinity[i][j][k] = 0.0f;
            }
    }

    // Moves the exponents out of the products, two sums to a word.
    __device__ __forceinline__ void move_exponents(uint4* sums) {
#pragma unroll
        for (int i = 0; i < I_TILES; ++i)
#pragma unroll
            for (int j = 0; j < J_TILES; j += 2) {
                uint4& at = sums[(i * J_TILES + j) / 2 * THREADS];
                uint4 sum = at;
                sum.x += take_exponents(product[i][j][0], product[i][j][1]);
                sum.y += take_exponents(product[i][j][2], product[i][j][3]);
                sum.z += take_exponents(product[i][j + 1][0], product[i][j + 1][1]);
                sum.w += take_exponents(product[i][j + 1][2], product[i][j + 1][3]);
                at = sum;
            }
    }

    __device__ __forceinline__ static uint32_t take_exponents(float& first, float& second) {
        const uint32_t x = float_bits(first), y = float_bits(second);
        first = bits_float((x & 0x7fffffu) | START);
        second = bits_float((y & 0x7fffffu) | START);
        return ((x >> 16 | (y & 0xffff0000u)) >> 7) & 0xff00ffu;
    }
};

// Where pair (i, j, k) of a warp lies among those of its warp.
__device__ __forceinline__ int row_of(int i, int k) {
    return 16 * i + threadIdx.x % 32 / 4 + (k < 2 ? 0 : 8);
}
__device__ __forceinline__ int col_of(int j, int k) {
    return 8 * j + 2 * (threadIdx.x % 4) + k % 2;
}

// The mask word and bit of a pair; masks follow the 128 x 128 patches of ffma_redo.
struct Mask {
    uint32_t* words;
    int row, col;  // of the warp, in the patch of its half

    __device__ __forceinline__ uint32_t* word(int i, int j, int k) const {
        return words + (row + row_of(i, k)) * MASK_WORDS + (col + col_of(j, k)) / 32;
    }
    __device__ __forceinline__ uint32_t bit(int j, int k) const {
        return 1u << (col + col_of(j, k)) % 32;
    }
};

// Rare: marks the pairs whose last 8 samples may hold an affinity too small to trust.
__device__ __forceinline__ void mark_lost(const Pairs& pairs, const Mask& mask, int* flag) {
#pragma unroll
    for (int i = 0; i < I_TILES; ++i)
#pragma unroll
        for (int j = 0; j < J_TILES; ++j)
#pragma unroll
            for (int k = 0; k < 4; ++k)
                if (float_bits(pairs.product[i][j][k]) < SMALLEST_PRODUCT) {
                    atomicOr(mask.word(i, j, k), mask.bit(j, k));
                    *flag = 1;
                }
}

// rows, cols (n_samples, SPLIT_PLANES, stride, 16 bytes), the split planes of prepare_slab from
// sample 0 on; strides in models; n_samples a multiple of 8, at most 2,048 (the exponent sums
// have 16 bits).  lost (patches), lost_count, masks (patches, 128, 4), zero before: the pairs
// left out, for ffma_redo, which clears the masks.
extern "C" __global__ void __launch_bounds__(THREADS, INPCA_BLOCKS)
tensor_tiles(const unsigned char* rows, int row_stride, int row_first, const unsigned char* cols,
             int col_stride, int col_first, int n_samples, const int* tiles, int tile_size,
             int* out, double units, int* lost, int* lost_count, uint32_t* masks) {
    DYNAMIC_SHARED(shared);
    uint4* sums = reinterpret_cast<uint4*>(shared + RING * STAGE_BYTES) + threadIdx.x;
    int* flags = reinterpret_cast<int*>(shared + RING * STAGE_BYTES + EXPONENT_BYTES);
    const Patch patch = find_patch<COLS>(blockIdx.x, tiles, tile_size, row_first, col_first);
    rows += static_cast<long long>(patch.row) * 16;
    cols += static_cast<long long>(patch.col) * 16;
    const int row_bytes = 16 * row_stride, col_bytes = 16 * col_stride;
    const int warp = threadIdx.x / 32;
    const int warp_row = warp / WARPS_ACROSS * 64, warp_col = warp % WARPS_ACROSS * WARP_COLS;
    constexpr int PATCHES = COLS / TILE;
    if (threadIdx.x < PATCHES) flags[threadIdx.x] = 0;

    Mask mask;
    const int lost_index = find_lost<COLS>(blockIdx.x, warp_col, tile_size);
    mask.words = masks + static_cast<long long>(lost_index) * TILE * MASK_WORDS;
    mask.row = warp_row;
    mask.col = warp_col % TILE;

    const Lane lane;
    Pairs pairs;
    pairs.clear();
#pragma unroll
    for (int quad = 0; quad < EXPONENT_QUADS; ++quad)
        sums[quad * THREADS].x = sums[quad * THREADS].y = sums[quad * THREADS].z =
            sums[quad * THREADS].w = 0;
    const int stages = n_samples * SPLIT_BLOCKS / STAGE_BLOCKS;
#pragma unroll
    for (int stage = 0; stage < RING - 1; ++stage) {
        load_stage(shared + stage * STAGE_BYTES, rows, row_bytes, cols, col_bytes, stage);
        cp_async_commit();
    }
    int slot = 0, block = 0, sample = 0;
    for (int stage = 0; stage < stages; ++stage) {
        cp_async_wait<RING - 2>();
        __syncthreads();
        if (stage + RING - 1 < stages)
            load_stage(shared + (slot == 0 ? RING - 1 : slot - 1) * STAGE_BYTES, rows, row_bytes,
                       cols, col_bytes, stage + RING - 1);
        cp_async_commit();
        const unsigned char* now = shared + slot * STAGE_BYTES;
        slot = slot == RING - 1 ? 0 : slot + 1;
#pragma unroll
        for (int s = 0; s < STAGE_BLOCKS; ++s)
            pairs.add_block(now + s * LEFT_BYTES + warp_row * 16,
                            now + STAGE_BLOCKS * LEFT_BYTES + s * RIGHT_BYTES + warp_col * 16,
                            lane);
        if (WIDE) {
            if (++block < SPLIT_BLOCKS) continue;
            block = 0;
            pairs.absorb_sum();
        }
        sample += WIDE ? 1 : STAGE_BLOCKS;
        if (sample % GROUP != 0) continue;
        if (min(pairs.smallest[0], pairs.smallest[1]) < SMALLEST) {
            mark_lost(pairs, mask, &flags[warp_col / TILE]);
            pairs.look_again();
        }
        pairs.move_exponents(sums);
    }
    __syncthreads();
    if (threadIdx.x < PATCHES && flags[threadIdx.x])
        lost[atomicAdd(lost_count, 1)] = find_lost<COLS>(blockIdx.x, threadIdx.x * TILE, tile_size);
    const bool some_lost = flags[warp_col / TILE] != 0;
    const int full = FULL_EXPONENT * (n_samples / GROUP);
    out += patch.at + static_cast<long long>(warp_row) * tile_size + warp_col;
#pragma unroll
    for (int i = 0; i < I_TILES; ++i)
#pragma unroll
        for (int j = 0; j < J_TILES; ++j) {
            const uint4 sum = sums[(i * J_TILES + j) / 2 * THREADS];
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                if (some_lost && (*mask.word(i, j, k) & mask.bit(j, k))) continue;
                const uint32_t both = j % 2 ? (k < 2 ? sum.z : sum.w) : (k < 2 ? sum.x : sum.y);
                const int exponent = both >> (k % 2 ? 16 : 0) & 0xffffu;
                const int mantissa = (float_bits(pairs.product[i][j][k]) & 0x7fffff) | 127 << 23;
                const double bits = static_cast<double>(exponent - full) +
                                    static_cast<double>(fast_log2(bits_float(mantissa)));
                atomicAdd(&out[static_cast<long long>(row_of(i, k)) * tile_size + col_of(j, k)],
                          to_units(bits, units));
            }
        }
}
