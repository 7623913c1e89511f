// The warp instructions bare: what each lane holds before and after, for comparison with the tables
// of the PTX ISA.
#include "ptx.cuh"

extern "C" __global__ void load_matrices(const uint16_t* in, uint32_t* out) {
    DYNAMIC_SHARED(shared);
    uint16_t* rows = reinterpret_cast<uint16_t*>(shared);   // 32 rows of 8
    for (int i = 0; i < 8; ++i) rows[threadIdx.x * 8 + i] = in[threadIdx.x * 8 + i];
    __syncwarp();
    uint32_t r[4];
    ldmatrix_x4(r, rows + threadIdx.x * 8);
    for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = r[i];
}

extern "C" __global__ void multiply(const uint32_t* a, const uint32_t* b, const float* c, float* d) {
    const int lane = threadIdx.x;
    uint32_t of_a[4], of_b[2];
    float of_c[4], of_d[4];
    for (int i = 0; i < 4; ++i) of_a[i] = a[lane * 4 + i];
    for (int i = 0; i < 2; ++i) of_b[i] = b[lane * 2 + i];
    for (int i = 0; i < 4; ++i) of_c[i] = c[lane * 4 + i];
    mma_m16n8k16(of_d, of_a, of_b, of_c);
    for (int i = 0; i < 4; ++i) d[lane * 4 + i] = of_d[i];
}

extern "C" __global__ void convert(const float* in, uint16_t* halves, float* back, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    halves[i] = half_bits(in[i]);
    back[i] = half_value(halves[i]);
}

// Each of these is one mistake that a GPU punishes, or worse, forgives.
extern "C" __global__ void misaligned_copy(const float* in, float* out) {
    DYNAMIC_SHARED(shared);
    cp_async16(shared + 16 * threadIdx.x, in + threadIdx.x);
    cp_async_commit();
    cp_async_wait<0>();
    out[threadIdx.x] = reinterpret_cast<float*>(shared)[4 * threadIdx.x];
}

extern "C" __global__ void read_behind(const float* in, float* out) {
    out[threadIdx.x] = in[threadIdx.x + 1];
}

extern "C" __global__ void write_behind(const float* in, float* out) {
    out[threadIdx.x + 1] = in[threadIdx.x];
}

extern "C" __global__ void write_far_away(const float* in, float* out) {
    out[threadIdx.x + (1ll << 44)] = in[threadIdx.x];
}

extern "C" __global__ void write_behind_shared(const float* in, float* out) {
    DYNAMIC_SHARED(shared);
    reinterpret_cast<float*>(shared)[threadIdx.x + 1] = in[threadIdx.x];
    out[threadIdx.x] = 1.0f;
}

extern "C" __global__ void read_unwritten_shared(const float*, float* out) {
    DYNAMIC_SHARED(shared);
    out[threadIdx.x] = reinterpret_cast<float*>(shared)[threadIdx.x];
}

extern "C" __global__ void half_a_warp_multiplies(const float* in, float* out) {
    const uint32_t a[4] = {}, b[2] = {};
    float d[4] = {in[threadIdx.x], 0.0f, 0.0f, 0.0f};
    if (threadIdx.x < 16) mma_m16n8k16(d, a, b, d);
    out[threadIdx.x] = d[0];
}

extern "C" __global__ void overwrite_a_copy_in_flight(const float* in, float* out) {
    DYNAMIC_SHARED(shared);
    float* mine = reinterpret_cast<float*>(shared) + 4 * threadIdx.x;
    cp_async16(mine, in);
    cp_async_commit();
    mine[0] = 1.0f;
    cp_async_wait<0>();
    out[threadIdx.x] = mine[0];
}

// Every block writes the first entry.
extern "C" __global__ void blocks_overlap(const float* in, float* out) {
    if (threadIdx.x == 0) out[0] = in[blockIdx.x];
}

// Two warps write one flag: the same value, or each its own.
extern "C" __global__ void set_flag(float* out, int differ) {
    DYNAMIC_SHARED(shared);
    int* flag = reinterpret_cast<int*>(shared);
    if (threadIdx.x % 32 == 0) *flag = 1 + differ * static_cast<int>(threadIdx.x);
    __syncthreads();
    out[threadIdx.x] = static_cast<float>(*flag);
}
