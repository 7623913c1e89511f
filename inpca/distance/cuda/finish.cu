// The two small kernels around the tiles: the log-reduction of a batched product, and the end.
#include "ptx.cuh"
#include "tile.cuh"

// affinity (n_samples, entries) float32, one store tile flattened, n_samples even.
// out (entries) -= log2 of the affinities, in units; two samples a log, as in ffma.cu.
extern "C" __global__ void __launch_bounds__(256)
reduce_logs(const float* affinity, int n_samples, long long entries, int* out, double units) {
    const long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= entries) return;
    float sum = 0.0f;
    for (int n = 0; n < n_samples; n += 2)
        sum += fast_log2(affinity[n * entries + at] * affinity[(n + 1) * entries + at]);
    out[at] += to_units(static_cast<double>(sum), units);
}

// Integers of 1/units bit to float32 nats, in place: scale = ln 2 / (units N).
extern "C" __global__ void __launch_bounds__(256)
finish_tiles(int* tiles, long long entries, double scale) {
    const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
    for (long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
         at < entries; at += step)
        tiles[at] = float_bits(static_cast<float>(tiles[at] * scale));
}
