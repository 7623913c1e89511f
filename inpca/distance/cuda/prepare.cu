// Slab preparation: (model, sample, class) log-probabilities to the layouts the tiles read.
//
// One thread makes one prediction: sqrt(p) normalised over the classes.  Lanes run over models,
// the innermost dimension of every output, so that each store of a warp is one full line.
#include "ptx.cuh"
#include "split.cuh"

#ifdef INPCA_PLANES
static_assert(CLASSES_PADDED == INPCA_CLASSES_PADDED && SPLIT_PLANES == INPCA_PLANES,
              "the caller counts planes otherwise");
#endif
constexpr float FLOOR = 2.168404344971009e-19f;  // 2^-62

// One prediction, kept in registers where the classes are few, else read again each time.
struct Prediction {
    const float* at;
    float largest, scale;
#if INPCA_CLASSES <= 32
    float root[CLASSES];
#endif

    __device__ __forceinline__ float unscaled(int c) const {
        return expf(0.5f * (at[c] - largest));
    }

    // Reads the classes, finds the scale that makes sum p = 1; false when there is none (NaN).
    __device__ __forceinline__ bool read(const float* from) {
        at = from;
        largest = at[0];
        for (int c = 1; c < CLASSES; ++c) largest = at[c] > largest ? at[c] : largest;
        float total = 0.0f;
#if INPCA_CLASSES <= 32
#pragma unroll
#endif
        for (int c = 0; c < CLASSES; ++c) {
            const float e = unscaled(c);
#if INPCA_CLASSES <= 32
            root[c] = e;
#endif
            total += e * e;
        }
        scale = 1.0f / sqrtf(total);
        return total >= 1.0f && total <= static_cast<float>(CLASSES);
    }

    __device__ __forceinline__ float operator()(int c) const {
#if INPCA_CLASSES <= 32
        return root[c] * scale;
#else
        return unscaled(c) * scale;
#endif
    }
};

// The value every entry of the slab has: padding models are the uniform prediction (no
// affinity with them is ever small), padding samples are one-hot for all (affinity exactly 1).
struct Entry {
    Prediction prediction;
    bool real, one_hot;

    __device__ __forceinline__ float root(int c) const {
        if (c >= CLASSES) return 0.0f;
        if (one_hot) return c == 0 ? 1.0f : 0.0f;
        return real ? prediction(c) : rsqrt_classes();
    }
    __device__ static __forceinline__ float rsqrt_classes() {
        return 1.0f / sqrtf(static_cast<float>(CLASSES));
    }
};

__device__ __forceinline__ void write_float(const Entry& entry, float* planes, int n, int model,
                                            int stride, unsigned long long* counts) {
    unsigned int floored = 0;
#if INPCA_CLASSES <= 32
#pragma unroll
#endif
    for (int c = 0; c < CLASSES_PADDED; ++c) {
        float root = entry.root(c);
        if (c < CLASSES && !entry.one_hot && root < FLOOR) {
            root = FLOOR;
            ++floored;
        }
        planes[(static_cast<long long>(n) * CLASSES_PADDED + c) * stride + model] = root;
    }
    if (floored) atomicAdd(&counts[0], static_cast<unsigned long long>(floored));
}

__device__ __forceinline__ void write_split(const Entry& entry, uint32_t* planes, int n,
                                            int model, int stride) {
    const long long sample = static_cast<long long>(n) * SPLIT_PLANES;
#if INPCA_CLASSES <= 32
#pragma unroll
#endif
    for (int group = 0; group < SPLIT_GROUPS; ++group) {
        uint32_t high[4], low[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const int c = 8 * group + 2 * k;
            split_pair(entry.root(c), entry.root(c + 1), high[k], low[k]);
        }
        store_quad(planes, (sample + 2 * group) * stride + model, high);
        store_quad(planes, (sample + 2 * group + 1) * stride + model, low);
    }
    if (SPLIT_REST == 0) return;
    uint32_t left[8] = {0, 0, 0, 0, 0, 0, 0, 0}, right[8] = {0, 0, 0, 0, 0, 0, 0, 0};
#pragma unroll
    for (int k = 0; k < SPLIT_REST; ++k) {
        const int c = 8 * SPLIT_GROUPS + 2 * k;
        uint32_t high, low;
        split_pair(entry.root(c), entry.root(c + 1), high, low);
        left[3 * k] = high, left[3 * k + 1] = high, left[3 * k + 2] = low;
        right[3 * k] = high, right[3 * k + 1] = low, right[3 * k + 2] = high;
    }
#pragma unroll
    for (int k = 0; k < SPLIT_REST; ++k) {
        const long long plane = sample + 2 * SPLIT_GROUPS + k;
        store_quad(planes, plane * stride + model, left + 4 * k);
        store_quad(planes, (plane + SPLIT_REST) * stride + model, right + 4 * k);
    }
}

// log_prob (n_models, ., C) float32, models `model_step` floats apart, samples C floats apart.
// float_planes (n_padded, C_padded, stride) float32, or null; split_planes (n_padded,
// SPLIT_PLANES, stride, 16 bytes), or null.  counts[0] += floored entries (counted where float
// planes are written), counts[1] += predictions that are no distribution (NaN, all -inf).
// Grid: x over padded models, y over padded samples.
extern "C" __global__ void __launch_bounds__(128)
prepare_slab(const float* log_prob, long long model_step, int n_models, int n_samples,
             int stride, float* float_planes, uint32_t* split_planes,
             unsigned long long* counts) {
    const int model = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    const int n = static_cast<int>(blockIdx.y);
    if (model >= stride) return;
    Entry entry;
    entry.real = model < n_models && n < n_samples;
    entry.one_hot = n >= n_samples;
    if (entry.real &&
        !entry.prediction.read(log_prob + model * model_step + static_cast<long long>(n) * CLASSES))
        atomicAdd(&counts[1], 1ULL);
    if (float_planes) write_float(entry, float_planes, n, model, stride, counts);
    if (split_planes) write_split(entry, split_planes, n, model, stride);
}
