// CUDA C++ on the CPU, for g++: what a kernel source sees in place of nvcc's built-ins.
//
// Every CUDA thread is a fiber; one block runs at a time on one core. The bodies are in runtime.cpp,
// which is compiled once, without instrumentation, and linked with each kernel source. Kernel
// sources are compiled with -fsanitize=thread, whose hooks runtime.cpp implements: every load and
// store is checked for races between barriers, for copies still in flight and for array bounds.
#pragma once

// C's own math.h: the C++ one takes half of a kernel's compile time.
#define _GLIBCXX_INCLUDE_NEXT_C_HEADERS
#include <math.h>
#undef _GLIBCXX_INCLUDE_NEXT_C_HEADERS

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

// ---------------------------------------------------------------------------- words of the language
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __grid_constant__
// One block at a time: a block's static shared memory can be static. The section lets the runtime
// find and poison it.
#define __shared__ static __attribute__((section("emu_shared")))

// ------------------------------------------------------------------------------------ vector types
#define EMU_VECTOR(T, name, alignment)                                                \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                \
    struct name##3 { T x, y, z; };                                                    \
    struct alignas(alignment) name##4 { T x, y, z, w; };                              \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                        \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTOR(float, float, 16)
EMU_VECTOR(double, double, 16)
EMU_VECTOR(int, int, 16)
EMU_VECTOR(unsigned, uint, 16)
EMU_VECTOR(unsigned short, ushort, 8)
EMU_VECTOR(long long, longlong, 16)
#undef EMU_VECTOR

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// ------------------------------------------------------------------------------- the runtime's doors
namespace emu {
using std::uint16_t;
using std::uint32_t;
using std::uint64_t;

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
void yield();
void* dynamic_shared();
int barrier(int line, int predicate);           // returns how many threads came with a true predicate
void warp_barrier(uint32_t mask);
uint64_t shuffle(uint32_t mask, uint64_t value, int source_lane);
uint32_t ballot(uint32_t mask, bool predicate);
int lane();
void check_atomic(const void* address, std::size_t bytes);

void cp_async(void* shared, const void* global, int bytes, int source_bytes);
void cp_async_commit();
void cp_async_wait(int groups_left_in_flight);
void ldmatrix(uint32_t* r, int matrices, bool transposed, const void* shared_row);
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                  const float (&c)[4]);

float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);            // round to nearest, ties to even
float fast_log2(float x);

template <class To, class From>
inline To bits(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To out;
    __builtin_memcpy(&out, &value, sizeof out);
    return out;
}

template <class T>
inline T shuffle_as(uint32_t mask, T value, int source_lane) {
    static_assert(sizeof(T) <= sizeof(uint64_t));
    uint64_t raw = 0;
    __builtin_memcpy(&raw, &value, sizeof value);
    raw = shuffle(mask, raw, source_lane);
    __builtin_memcpy(&value, &raw, sizeof value);
    return value;
}
}  // namespace emu

// -------------------------------------------------------------------------- barriers and warp votes
#define __syncthreads() ((void)::emu::barrier(__LINE__, 0))
#define __syncthreads_or(p) (::emu::barrier(__LINE__, (p) != 0) != 0)
#define __syncthreads_count(p) (::emu::barrier(__LINE__, (p) != 0))
inline void __syncwarp(unsigned mask = 0xffffffffu) { emu::warp_barrier(mask); }
inline unsigned __ballot_sync(unsigned mask, int p) { return emu::ballot(mask, p != 0); }
inline int __any_sync(unsigned mask, int p) { return emu::ballot(mask, p != 0) != 0; }
inline int __all_sync(unsigned mask, int p) { return emu::ballot(mask, p != 0) == mask; }
inline void __threadfence() {}
inline void __threadfence_block() {}

// A lane that asks outside its segment of `width` lanes gets its own value back.
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    const int first = emu::lane() & ~(width - 1);
    return emu::shuffle_as(mask, value, first + (source & (width - 1)));
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
    const int source = emu::lane() ^ lane_mask;
    const int last = emu::lane() | (width - 1);
    return emu::shuffle_as(mask, value, source > last ? emu::lane() : source);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    const int source = emu::lane() + static_cast<int>(delta);
    const int last = emu::lane() | (width - 1);
    return emu::shuffle_as(mask, value, source > last ? emu::lane() : source);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    const int source = emu::lane() - static_cast<int>(delta);
    const int first = emu::lane() & ~(width - 1);
    return emu::shuffle_as(mask, value, source < first ? emu::lane() : source);
}

// ----------------------------------------------------------------------------------------- atomics
// Fibers share one core, so a read-modify-write is atomic; other threads may run right after it.
// Atomics do not race with each other: they bypass the watch, but for bounds and alignment.
#define EMU_UNWATCHED __attribute__((noinline, no_sanitize("thread")))
#define EMU_ATOMIC(name, expression)                                            \
    template <class T>                                                          \
    EMU_UNWATCHED T name(T* address, std::type_identity_t<T> value) {           \
        emu::check_atomic(address, sizeof(T));                                  \
        const T old = *address;                                                 \
        *address = static_cast<T>(expression);                                  \
        emu::yield();                                                           \
        return old;                                                             \
    }
EMU_ATOMIC(atomicAdd, old + value)
EMU_ATOMIC(atomicSub, old - value)
EMU_ATOMIC(atomicOr, old | value)
EMU_ATOMIC(atomicAnd, old & value)
EMU_ATOMIC(atomicMax, old > value ? old : value)
EMU_ATOMIC(atomicMin, old < value ? old : value)
EMU_ATOMIC(atomicExch, value)
template <class T>
EMU_UNWATCHED T atomicCAS(T* address, std::type_identity_t<T> compare,
                          std::type_identity_t<T> value) {
    emu::check_atomic(address, sizeof(T));
    const T old = *address;
    if (old == compare) *address = value;
    emu::yield();
    return old;
}
#undef EMU_ATOMIC

// -------------------------------------------------------------------------------------- intrinsics
inline unsigned __float_as_uint(float x) { return emu::bits<unsigned>(x); }
inline int __float_as_int(float x) { return emu::bits<int>(x); }
inline float __uint_as_float(unsigned x) { return emu::bits<float>(x); }
inline float __int_as_float(int x) { return emu::bits<float>(x); }
inline long long __double_as_longlong(double x) { return emu::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emu::bits<double>(x); }
inline float __log2f(float x) { return emu::fast_log2(x); }
inline float __logf(float x) { return logf(x); }
inline float __expf(float x) { return expf(x); }
inline float __exp2f(float x) { return exp2f(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
template <class T>
inline T __ldg(const T* p) { return *p; }
template <class T>
inline T __ldcs(const T* p) { return *p; }
template <class T>
inline T __ldcg(const T* p) { return *p; }
template <class T>
inline void __stcs(T* p, std::type_identity_t<T> v) { *p = v; }
template <class A, class B>
inline std::common_type_t<A, B> min(A a, B b) { return b < a ? b : a; }
template <class A, class B>
inline std::common_type_t<A, B> max(A a, B b) { return a < b ? b : a; }

// ----------------------------------------- the contract of inpca/distance/cuda/ptx.cuh, name by name
#define DYNAMIC_SHARED(name) \
    unsigned char* const name = static_cast<unsigned char*>(::emu::dynamic_shared())

inline int float_bits(float x) { return emu::bits<int>(x); }
inline float bits_float(int x) { return emu::bits<float>(x); }
inline std::uint16_t half_bits(float x) { return emu::float_to_half(x); }
inline float half_value(std::uint16_t h) { return emu::half_to_float(h); }
inline float fast_log2(float x) { return emu::fast_log2(x); }
inline int min3(int a, int b, int c) { return min(a, min(b, c)); }
inline void cp_async16(void* smem, const void* gmem) { emu::cp_async(smem, gmem, 16, 16); }
inline void cp_async_commit() { emu::cp_async_commit(); }
template <int N>
inline void cp_async_wait() {
    emu::cp_async_wait(N);
}
inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* smem_row) {
    emu::ldmatrix(r, 4, false, smem_row);
}
inline void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                         const float (&c)[4]) {
    emu::mma_m16n8k16(d, a, b, c);
}

// ----------------------------------------------------------------------- launching a kernel from C
namespace emu {
struct Launch {
    dim3 grid, block;
    uint64_t shared_bytes;
    uint64_t seed;
};

using Body = void (*)(const void* closure);
int launch(const Launch& how, Body body, const void* closure, char* message, uint64_t message_size);

// One letter per parameter, which tells the driver how to convert its arguments: "p4" is a pointer
// to four-byte elements, "i8" an eight-byte integer, "f4" a float, "s24" a structure of 24 bytes.
template <class P>
void describe(char*& out) {
    using T = std::remove_cv_t<P>;
    char kind = 's';
    std::size_t size = sizeof(T);
    if constexpr (std::is_pointer_v<T>) {
        kind = 'p';
        if constexpr (std::is_void_v<std::remove_pointer_t<T>>) size = 1;
        else size = sizeof(std::remove_pointer_t<T>);
    } else if constexpr (std::is_integral_v<T>) {
        kind = 'i';
    } else if constexpr (std::is_floating_point_v<T>) {
        kind = 'f';
    }
    *out++ = kind;
    if (size >= 100) *out++ = static_cast<char>('0' + size / 100 % 10);
    if (size >= 10) *out++ = static_cast<char>('0' + size / 10 % 10);
    *out++ = static_cast<char>('0' + size % 10);
    *out++ = ' ';
    *out = '\0';
}

template <class... P>
const char* signature(void (*)(P...)) {
    static char text[6 * sizeof...(P) + 1];
    char* out = text;
    (describe<P>(out), ...);
    return text;
}

template <class... P, std::size_t... I>
int launch_unpacked(void (*kernel)(P...), const Launch& how, void** arguments, char* message,
                    uint64_t message_size, std::index_sequence<I...>) {
    auto call = [=] { kernel(*static_cast<std::remove_cv_t<P>*>(arguments[I])...); };
    const Body body = [](const void* closure) { (*static_cast<decltype(call) const*>(closure))(); };
    return launch(how, body, &call, message, message_size);
}

template <class... P>
int launch_packed(void (*kernel)(P...), const Launch& how, void** arguments, char* message,
                  uint64_t message_size) {
    return launch_unpacked(kernel, how, arguments, message, message_size,
                           std::index_sequence_for<P...>{});
}
}  // namespace emu

// The driver writes one of these per kernel behind the source; KERNEL may name a template instance.
#define EMU_DOOR extern "C" __attribute__((visibility("default")))
#define EMU_EXPORT(alias, ...)                                                            \
    EMU_DOOR const char* emu_signature_##alias() { return emu::signature(__VA_ARGS__); }  \
    EMU_DOOR int emu_launch_##alias(const emu::Launch* how, void** arguments,             \
                                    char* message, std::uint64_t message_size) {          \
        return emu::launch_packed(__VA_ARGS__, *how, arguments, message, message_size);   \
    }
#define EMU_CONSTANT(number, ...) \
    EMU_DOOR const long long emu_constant_##number = static_cast<long long>(__VA_ARGS__);
