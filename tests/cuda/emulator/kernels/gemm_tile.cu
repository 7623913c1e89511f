// One warp, one 16×8 tile of A·Bᵀ (A 16×k, B 8×k, rows of halves), k a multiple of 16.
#include "ptx.cuh"

extern "C" __global__ void gemm_tile(const unsigned short* a, const unsigned short* b, float* d,
                                     int k) {
    DYNAMIC_SHARED(shared);   // rows of 16 halves: 16 of A, 8 of B
    uint16_t* rows = reinterpret_cast<uint16_t*>(shared);
    const int lane = threadIdx.x;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int first = 0; first < k; first += 16) {
        const unsigned short* source = lane < 16 ? a + lane * k : b + (lane & 7) * k;
        if (lane < 24)
            for (int i = 0; i < 16; ++i) rows[lane * 16 + i] = source[first + i];
        __syncwarp();
        // Matrices 0–3 of A: rows 0–7 and 8–15 of the low columns, then of the high ones.
        uint32_t fragment_a[4], both_b[4];
        ldmatrix_x4(fragment_a, rows + (lane & 15) * 16 + (lane >> 4) * 8);
        // B: matrix 0 is the low columns, 1 the high ones; 2 and 3 repeat them, unused.
        ldmatrix_x4(both_b, rows + (16 + (lane & 7)) * 16 + (lane >> 3 & 1) * 8);
        const uint32_t fragment_b[2] = {both_b[0], both_b[1]};
        mma_m16n8k16(sum, fragment_a, fragment_b, sum);
        __syncwarp();
    }
    const int group = lane >> 2, column = 2 * (lane & 3);
    d[group * 8 + column] = sum[0];
    d[group * 8 + column + 1] = sum[1];
    d[(group + 8) * 8 + column] = sum[2];
    d[(group + 8) * 8 + column + 1] = sum[3];
}
