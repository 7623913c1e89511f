#include "ptx.cuh"

// A 32×32 tile through static shared memory: what one thread writes, another warp's thread reads.
extern "C" __global__ void transpose(const float* in, float* out, int n) {
    __shared__ float tile[32][33];
    const int x = threadIdx.x, first_row = blockIdx.y * 32, first_column = blockIdx.x * 32;
    for (int y = threadIdx.y; y < 32; y += blockDim.y) {
        const bool inside = first_row + y < n && first_column + x < n;
        tile[y][x] = inside ? in[(first_row + y) * n + first_column + x] : 0.0f;
    }
    __syncthreads();
    for (int y = threadIdx.y; y < 32; y += blockDim.y)
        if (first_column + y < n && first_row + x < n)
            out[(first_column + y) * n + first_row + x] = tile[x][y];
}

// The same within one warp, where __syncwarp is enough; the sum goes round by shuffles.
extern "C" __global__ void reverse_and_sum(const float* in, float* out, float* total) {
    DYNAMIC_SHARED(shared);
    float* values = reinterpret_cast<float*>(shared);
    values[threadIdx.x] = in[threadIdx.x];
    __syncwarp();
    const float value = values[31 - threadIdx.x];
    out[threadIdx.x] = value;
    float sum = value;
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (threadIdx.x == 0) atomicAdd(total, sum);
}

// A barrier that only some threads reach.
extern "C" __global__ void diverge(float* out, int threads_that_wait) {
    if (static_cast<int>(threadIdx.x) < threads_that_wait) __syncthreads();
    out[threadIdx.x] = 1.0f;
}
