// Slabs stream through two buffers by asynchronous copies; each thread sums a column that other
// warps have copied.
#include "ptx.cuh"

constexpr int kThreads = 128;
constexpr int kSlab = 4 * kThreads;   // floats: 16 bytes a thread

extern "C" __global__ void column_sums(const float* in, float* out, int slabs) {
    DYNAMIC_SHARED(shared);
    float* buffers = reinterpret_cast<float*>(shared);
    const int thread = threadIdx.x;
    const auto fetch = [&](int slab) {
        if (slab < slabs)
            cp_async16(buffers + slab % 2 * kSlab + 4 * thread, in + slab * kSlab + 4 * thread);
        cp_async_commit();
    };
    float sum = 0.0f;
    fetch(0);
    for (int slab = 0; slab < slabs; ++slab) {
        fetch(slab + 1);
        cp_async_wait<1>();
        __syncthreads();   // slab is there, for all
        const float* buffer = buffers + slab % 2 * kSlab;
        for (int i = 0; i < 4; ++i) sum += buffer[i * kThreads + (kThreads - 1 - thread)];
        __syncthreads();   // and read by all, before it is overwritten
    }
    out[thread] = sum;
}
