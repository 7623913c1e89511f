// Every instruction that plain CUDA C++ cannot say, each behind one small function.
//
// The kernels beside this file use only plain CUDA C++ (threadIdx, blockIdx, gridDim,
// __syncthreads, __syncwarp, atomicAdd, atomicOr, __ffs, expf, sqrtf) and what is declared here,
// so that the same sources run on a CPU: compile them with -DINPCA_EMULATE and an include path that holds
// an `emulate.cuh` defining the same names.  Each comment is the contract both sides keep.
#pragma once

typedef unsigned int uint32_t;
typedef unsigned short uint16_t;

#ifdef INPCA_EMULATE
#include "emulate.cuh"
#else

// DYNAMIC_SHARED(name): declares `unsigned char* name`, the block's dynamic shared memory,
// 128-byte aligned.  Kernels have no other shared memory.  Used once, first in the kernel.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

// The 32 bits of a float as a signed integer, and back.
__device__ __forceinline__ int float_bits(float x) { return __float_as_int(x); }
__device__ __forceinline__ float bits_float(int x) { return __int_as_float(x); }

// Rounds to the nearest fp16 (ties to even, subnormals kept, overflow to infinity); the bits.
__device__ __forceinline__ uint16_t half_bits(float x) {
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}

// The exact value of fp16 bits.
__device__ __forceinline__ float half_value(uint16_t h) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
    return x;
}

// log2 to an absolute error of 2^-22 near 1 (relative elsewhere); log2(0) = -inf; subnormal
// arguments count as 0.
__device__ __forceinline__ float fast_log2(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Smallest of three signed integers (one instruction on sm_90).  Non-negative floats order as
// their bits do, and a negative one is below them all.
__device__ __forceinline__ int min3(int a, int b, int c) { return min(a, min(b, c)); }

// Starts an asynchronous 16-byte copy from global to shared memory, both 16-byte aligned.
// The destination is defined only after this thread has committed, waited, and a barrier.
__device__ __forceinline__ void cp_async16(void* smem, const void* gmem) {
    uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(smem));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(gmem) : "memory");
}

// Closes this thread's current group of copies (an empty group is a group).
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most the N newest groups of this thread are still in flight.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Four 8x8 matrices of fp16 from shared memory: lane l gives the address of row l%8 (16 bytes,
// 16-byte aligned) of matrix l/8; r[i] of lane l receives elements (l/4, 2(l%4)) and the next
// one of matrix i.  All 32 lanes take part.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* smem_row) {
    uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(smem_row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}

// d = a b + c on the tensor cores: a is 16x16 fp16 by rows, b 16x8 fp16 by columns, c and d
// 16x8 float32 (d may be c).  With g = lane/4, t = lane%4:
//   a[0] (g, 2t..)  a[1] (g+8, 2t..)  a[2] (g, 2t+8..)  a[3] (g+8, 2t+8..)
//   b[0] (2t.., g)  b[1] (2t+8.., g)
//   d[0] (g, 2t)    d[1] (g, 2t+1)    d[2] (g+8, 2t)    d[3] (g+8, 2t+1)
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2], const float (&c)[4]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]),
          "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

#endif

// The same number, but the compiler no longer knows where it comes from: addresses made from it
// are computed where they are used, not kept in registers (or spilled) through a long loop.
__device__ __forceinline__ int opaque(int x) {
#ifndef INPCA_EMULATE
    asm volatile("" : "+r"(x));
#endif
    return x;
}
