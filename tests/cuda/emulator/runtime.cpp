// The bodies behind emulate.cuh: fibers, the scheduler, shared memory and its watch, asynchronous
// copies, warp operations and tensor-core fragments. Compiled without instrumentation.
#include "emulate.cuh"

#include <cmath>
#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <sys/mman.h>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

extern "C" {
extern char __start_emu_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_emu_shared[] __attribute__((weak, visibility("hidden")));
void emu_switch(void** save, void* load) __attribute__((visibility("hidden")));
}

namespace emu {
namespace {

// ------------------------------------------------------------------------------------------- sizes
constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;
constexpr std::size_t kStackBytes = 256 << 10;
constexpr std::size_t kSharedLimit = 227 << 10;   // what an sm_90 block may ask for
constexpr std::size_t kRedZone = 4 << 10;         // poisoned bytes behind dynamic shared memory
constexpr uint32_t kFullMask = 0xffffffffu;
// A signalling NaN as one float32 and, half by half, as two float16; as an index it is far outside.
constexpr uint32_t kPoison = 0x7fbf7dbfu;

alignas(1024) unsigned char shared_arena[kSharedLimit + kRedZone];

// ----------------------------------------------------------------------------------- threads, warps
enum class State { runnable, at_barrier, at_warp_op, done };
enum class Op { none, sync, shuffle, ballot, ldmatrix, mma };
const char* const op_names[] = {"none", "__syncwarp", "shuffle", "vote", "ldmatrix", "mma"};

struct Copy {
    unsigned char* to;
    const unsigned char* from;
    int bytes, source_bytes, group;
    unsigned char seen[16];   // the source as it was at issue: it must still be so at landing
};

struct Thread {
    void* stack_pointer;
    uint3 index;
    int id;
    State state;
    int barrier_line, predicate;
    int committed_groups;
    std::vector<Copy> copies;
};

struct Warp {
    Op op;
    uint32_t mask, arrived, runnable;
    void* arguments[kWarp];
    uint32_t epoch;           // counts full __syncwarp: it orders memory within the warp
};

Thread threads[kMaxThreads];
Warp warps[kMaxThreads / kWarp];
int n_threads, n_warps, n_done, n_at_barrier, barrier_sum, last_barrier_line;
uint32_t warps_runnable;
uint32_t block_epoch;         // counts __syncthreads: it orders memory within the block
uint32_t first_epoch;         // of this block; earlier ones belong to other blocks
Thread* current;
unsigned char* stacks;
void* scheduler_stack_pointer;
bool failed;
char* error_text;
std::size_t error_size;
Body kernel_body;
const void* kernel_closure;
std::size_t dynamic_bytes;

// --------------------------------------------------------------------------------- switching stacks
// Only the registers that a callee must keep; everything else is dead across the call.
#if defined(__x86_64__)
asm(R"(
    .text
    .globl emu_switch
    .hidden emu_switch
    .type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emu_switch, .-emu_switch
)");
#elif defined(__aarch64__)
asm(R"(
    .text
    .globl emu_switch
    .hidden emu_switch
    .type emu_switch, %function
emu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size emu_switch, .-emu_switch
)");
#else
#error "the emulator's stack switch is written for x86-64 and aarch64"
#endif

[[noreturn]] void fiber_main();

void prepare_stack(Thread& thread) {
    auto* top = reinterpret_cast<void**>(stacks + (thread.id + 1) * kStackBytes);
#if defined(__x86_64__)
    // fiber_main starts as if called: the stack is 8 bytes off a multiple of 16.
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(&fiber_main);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
#else
    top -= 20;
    for (int i = 0; i < 20; ++i) top[i] = nullptr;
    top[11] = reinterpret_cast<void*>(&fiber_main);
#endif
    thread.stack_pointer = top;
}

void check_second_writes();

void to_scheduler() {
    if (!failed) check_second_writes();
    emu_switch(&current->stack_pointer, scheduler_stack_pointer);
}

Warp& warp_of(const Thread& thread) { return warps[thread.id / kWarp]; }
uint32_t lane_bit(const Thread& thread) { return 1u << (thread.id % kWarp); }

void set_runnable(Thread& thread) {
    thread.state = State::runnable;
    warp_of(thread).runnable |= lane_bit(thread);
    warps_runnable |= 1u << (thread.id / kWarp);
}

void set_waiting(Thread& thread, State state) {
    thread.state = state;
    Warp& warp = warp_of(thread);
    warp.runnable &= ~lane_bit(thread);
    if (!warp.runnable) warps_runnable &= ~(1u << (thread.id / kWarp));
}

// ----------------------------------------------------------------------------- the order of running
// Seed 0 runs the lowest thread as far as it can, seed 1 the highest; of the later ones the even
// hop at random, the odd starve one warp, another after each barrier, until nothing else can run.
uint64_t seed, random_state;
int starved_warp;

uint32_t random_bits() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return static_cast<uint32_t>(random_state >> 32);
}

int random_bit_of(uint32_t mask) {
    const int turn = random_bits() & 31;
    const uint32_t turned = mask >> turn | mask << ((32 - turn) & 31);
    return (__builtin_ctz(turned) + turn) & 31;
}

int pick_thread() {
    uint32_t candidates = warps_runnable;
    if (seed == 0) {
        const int warp = __builtin_ctz(candidates);
        return warp * kWarp + __builtin_ctz(warps[warp].runnable);
    }
    if (seed == 1) {
        const int warp = 31 - __builtin_clz(candidates);
        return warp * kWarp + 31 - __builtin_clz(warps[warp].runnable);
    }
    if (seed % 2 == 1 && candidates != 1u << starved_warp) candidates &= ~(1u << starved_warp);
    const int warp = random_bit_of(candidates);
    return warp * kWarp + random_bit_of(warps[warp].runnable);
}

// ------------------------------------------------------------------------- the watch over accesses
// One cell for two bytes, the smallest thing that threads share. Two accesses by different threads,
// one of them a write, must have a __syncthreads between them, or, within a warp, a full
// __syncwarp. In global memory nothing orders the blocks of a launch.
struct Stamp {
    uint32_t block = 0, warp = 0;   // epochs, from 1; block 0 is "never"
    int16_t thread = -1;            // kSeveral: several threads of one warp, or several warps
    int16_t of_warp = -1;
};
constexpr int16_t kSeveral = -2;
struct Cell {
    Stamp write, read;
    bool in_flight = false;
};

struct Watched {
    const char* name;
    const unsigned char* base = nullptr;
    std::size_t bytes = 0, guard = 0;
    std::vector<Cell> cells;

    void start(const void* at, std::size_t n, std::size_t margin) {
        base = static_cast<const unsigned char*>(at);
        bytes = n;
        guard = margin;
        cells.assign((n + 1) / 2, Cell{});
    }
};
Watched dynamic_watch{"shared"}, static_watch{"static shared"};
Watched arrays[64];
int n_arrays;

bool ordered_before_now(const Stamp& stamp) {
    if (stamp.block == 0) return true;
    if (stamp.block < first_epoch) return false;
    if (stamp.block != block_epoch || stamp.thread == current->id) return true;
    const int warp = current->id / kWarp;
    return stamp.of_warp == warp && stamp.warp != warps[warp].epoch;
}

Stamp stamp_now() {
    const int warp = current->id / kWarp;
    return {block_epoch, warps[warp].epoch, static_cast<int16_t>(current->id),
            static_cast<int16_t>(warp)};
}

void add_reader(Stamp& reader) {
    const Stamp now = stamp_now();
    if (reader.block != now.block) {
        reader = now;
    } else if (reader.of_warp != now.of_warp) {
        reader.of_warp = kSeveral;
        reader.thread = kSeveral;
    } else if (reader.warp != now.warp) {
        reader = now;   // the earlier readers of this warp are ordered before
    } else if (reader.thread != now.thread) {
        reader.thread = kSeveral;
    }
}

std::size_t offset_in(const Watched& watch, const void* address) {
    return static_cast<std::size_t>(static_cast<const unsigned char*>(address) - watch.base);
}

// Threads may write the same value with no barrier between, as a flag is set by whoever sees the
// reason. The hook comes before the store, so the values are compared at the next access or switch.
struct SecondWrite {
    Watched* watch = nullptr;
    std::size_t offset = 0;
    unsigned char before[2];
    Stamp first;
};
std::vector<SecondWrite> second_writes;

[[noreturn]] void refuse_access(const Watched& watch, std::size_t offset, const char* doing,
                                const char* they_did, const Stamp& they) {
    if (they.block < first_epoch)
        fail("%s %s byte %zu, which another block %s", doing, watch.name, offset, they_did);
    if (they.thread == kSeveral)
        fail("%s %s byte %zu, which other threads %s with no barrier between", doing, watch.name,
             offset, they_did);
    fail("%s %s byte %zu, which thread %d %s with no barrier between", doing, watch.name, offset,
         they.thread, they_did);
}

void check_second_writes() {
    if (second_writes.empty()) return;
    for (const SecondWrite& write : second_writes)
        if (std::memcmp(write.before, write.watch->base + write.offset, 2))
            refuse_access(*write.watch, write.offset, "writes another value to", "wrote",
                          write.first);
    second_writes.clear();
}

void watch_cell(Watched& watch, std::size_t offset, bool is_write) {
    Cell& cell = watch.cells[offset / 2];
    const char* const doing = is_write ? "writes" : "reads";
    if (cell.in_flight)
        fail("%s %s byte %zu while a copy to it is in flight (missing wait?)", doing, watch.name,
             offset);
    if (!ordered_before_now(cell.write)) {
        if (!is_write || offset + 2 > watch.bytes)
            refuse_access(watch, offset, doing, "wrote", cell.write);
        SecondWrite second{&watch, offset, {}, cell.write};
        std::memcpy(second.before, watch.base + offset, 2);
        second_writes.push_back(second);
    }
    if (is_write && !ordered_before_now(cell.read))
        refuse_access(watch, offset, doing, "read", cell.read);
    if (is_write) cell.write = stamp_now();
    else add_reader(cell.read);
}

void watch_cells(Watched& watch, std::size_t offset, std::size_t bytes, bool is_write) {
    for (std::size_t i = offset / 2 * 2; i < offset + bytes; i += 2) watch_cell(watch, i, is_write);
}

Watched* watch_of(const void* address) {
    if (offset_in(dynamic_watch, address) < dynamic_watch.bytes) return &dynamic_watch;
    if (offset_in(static_watch, address) < static_watch.bytes) return &static_watch;
    return nullptr;
}

void watch_shared(const void* address, std::size_t bytes, bool is_write) {
    Watched* watch = watch_of(address);
    const std::size_t offset = watch ? offset_in(*watch, address) : 0;
    if (!watch || offset + bytes > watch->bytes)
        fail("%s %zu bytes that are not all in the block's shared memory",
             is_write ? "writes" : "reads", bytes);
    watch_cells(*watch, offset, bytes, is_write);
}

bool is_in_shared_arena(const void* address) {
    const auto* p = static_cast<const unsigned char*>(address);
    return (p >= shared_arena && p < shared_arena + sizeof shared_arena) || watch_of(address);
}

// ------------------------------------------------------------------------------------ global arrays
void watch_global(const void* address, std::size_t bytes, bool is_write, bool is_atomic = false) {
    const auto* p = static_cast<const unsigned char*>(address);
    for (int i = 0; i < n_arrays; ++i) {
        Watched& array = arrays[i];
        if (p + bytes <= array.base - array.guard || p >= array.base + array.bytes + array.guard)
            continue;
        if (p < array.base || p + bytes > array.base + array.bytes)
            fail("%s %zu bytes at offset %td of a global array of %zu bytes",
                 is_write ? "writes" : "reads", bytes, p - array.base, array.bytes);
        if (!is_atomic) watch_cells(array, p - array.base, bytes, is_write);
        return;
    }
}

bool is_global(const void* address, std::size_t bytes) {
    const auto* p = static_cast<const unsigned char*>(address);
    for (int i = 0; i < n_arrays; ++i)
        if (p >= arrays[i].base && p + bytes <= arrays[i].base + arrays[i].bytes) return true;
    return false;
}

bool is_on_stack(const void* address) {
    const auto* p = static_cast<const unsigned char*>(address);
    return p >= stacks && p < stacks + kMaxThreads * kStackBytes;
}

void check_access(const void* address, std::size_t bytes, bool is_write) {
    if (!current || is_on_stack(address)) return;
    check_second_writes();
    if (is_in_shared_arena(address)) {
        watch_shared(address, bytes, is_write);
        return;
    }
    watch_global(address, bytes, is_write);
}

void check_aligned(const void* address, std::size_t bytes, const char* what) {
    if (reinterpret_cast<uintptr_t>(address) % bytes)
        fail("%s at an address that is not a multiple of %zu bytes", what, bytes);
}

// ------------------------------------------------------------------------------------ warp operations
using Complete = void (*)(Warp&);

// Collects the lanes of `mask`; the last to come computes for all. Nobody leaves before.
void converge(Op op, uint32_t mask, void* arguments, Complete complete) {
    Warp& warp = warp_of(*current);
    if (!(mask & lane_bit(*current)))
        fail("%s with a mask that leaves out its own lane", op_names[int(op)]);
    if (warp.arrived == 0) {
        warp.op = op;
        warp.mask = mask;
    } else if (warp.op != op || warp.mask != mask) {
        fail("%s (mask %08x) while its warp waits in %s (mask %08x)", op_names[int(op)], mask,
             op_names[int(warp.op)], warp.mask);
    }
    warp.arguments[current->id % kWarp] = arguments;
    warp.arrived |= lane_bit(*current);
    if (warp.arrived == warp.mask) {
        complete(warp);
        const int first = current->id / kWarp * kWarp;
        for (int i = 0; i < kWarp; ++i)
            if (warp.arrived >> i & 1) set_runnable(threads[first + i]);
        warp.arrived = 0;
    } else {
        set_waiting(*current, State::at_warp_op);
    }
    to_scheduler();
}

// --------------------------------------------------------------------------------------- tensor cores
struct HalfTable {
    float value[65536];
    HalfTable() {
        for (uint32_t h = 0; h < 65536; ++h) {
            const uint32_t sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
            if (exponent == 31) value[h] = bits<float>(sign | 0x7f800000u | fraction << 13);
            else if (exponent) value[h] = bits<float>(sign | (exponent + 112) << 23 | fraction << 13);
            else value[h] = (sign ? -1.0f : 1.0f) * static_cast<float>(fraction) * 0x1p-24f;
        }
    }
} const half_table;

// One row of D: c plus sixteen products, for eight columns at once. PTX leaves the order and the
// rounding of the sum open. Three readings, by seed: the exact sum rounded once; float32 in
// sequence, last product first; and, as measured on the cards: all terms cut to a common exponent
// with two bits to spare, the sum cut to float32.
using Row = float[8];

void sum_exactly(const float (&a)[16], const Row (&b)[16], Row& d) {
    double sum[8];
    for (int n = 0; n < 8; ++n) sum[n] = d[n];
    for (int k = 0; k < 16; ++k)
        for (int n = 0; n < 8; ++n) sum[n] += static_cast<double>(a[k]) * b[k][n];
    for (int n = 0; n < 8; ++n) d[n] = static_cast<float>(sum[n]);
}

void sum_in_sequence(const float (&a)[16], const Row (&b)[16], Row& d) {
    for (int k = 15; k >= 0; --k)
        for (int n = 0; n < 8; ++n) d[n] += a[k] * b[k][n];
}

uint32_t exponent_of(float x) { return bits<uint32_t>(x) & 0x7f800000u; }

float cut_to_float(double x) { return bits<double>(bits<uint64_t>(x) & ~0x1fffffffull); }

void sum_cut(const float (&a)[16], const Row (&b)[16], Row& d) {
    uint32_t top[8];
    for (int n = 0; n < 8; ++n) top[n] = exponent_of(d[n]);
    for (int k = 0; k < 16; ++k)
        for (int n = 0; n < 8; ++n) {
            const uint32_t exponent = exponent_of(a[k] * b[k][n]);
            top[n] = exponent > top[n] ? exponent : top[n];
        }
    Row exact;
    std::memcpy(exact, d, sizeof exact);
    sum_exactly(a, b, exact);
    for (int n = 0; n < 8; ++n) {
        const double unit = bits<float>(top[n]) * 0x1p-25;
        double sum = std::trunc(d[n] / unit);
        for (int k = 0; k < 16; ++k) sum += std::trunc(static_cast<double>(a[k]) * b[k][n] / unit);
        const bool ordinary = top[n] > 0x10000000u && top[n] < 0x7f000000u;
        d[n] = ordinary ? cut_to_float(sum * unit) : exact[n];
    }
}

void sum_products(const float (&a)[16], const Row (&b)[16], Row& d) {
    switch (seed % 3) {
        case 0: return sum_exactly(a, b, d);
        case 1: return sum_in_sequence(a, b, d);
        default: return sum_cut(a, b, d);
    }
}

struct MmaArguments {
    float* d;
    const uint32_t *a, *b;
    const float* c;
};

float half_of(uint32_t pair, int high) { return half_table.value[high ? pair >> 16 : pair & 0xffffu]; }

// Lane = 4·group + place. A (16×16): register r of a lane holds row group + 8·(r & 1) and columns
// 2·place + 8·(r >> 1), +1. B (16×8): register r holds rows 2·place + 8·r, +1 of column group.
// C and D (16×8): values 0, 1 are row group, 2, 3 row group + 8; columns 2·place, +1.
void gather_fragments(const Warp& warp, float (&a)[16][16], float (&b)[16][8],
                      float (&c)[16][8]) {
    for (int lane = 0; lane < kWarp; ++lane) {
        const auto& args = *static_cast<const MmaArguments*>(warp.arguments[lane]);
        const int group = lane >> 2, place = lane & 3;
        for (int r = 0; r < 4; ++r)
            for (int high = 0; high < 2; ++high)
                a[group + 8 * (r & 1)][2 * place + 8 * (r >> 1) + high] = half_of(args.a[r], high);
        for (int r = 0; r < 2; ++r)
            for (int high = 0; high < 2; ++high)
                b[2 * place + 8 * r + high][group] = half_of(args.b[r], high);
        for (int i = 0; i < 4; ++i) c[group + 8 * (i >> 1)][2 * place + (i & 1)] = args.c[i];
    }
}

void complete_mma(Warp& warp) {
    float a[16][16], b[16][8], d[16][8];
    gather_fragments(warp, a, b, d);
    for (int row = 0; row < 16; ++row) sum_products(a[row], b, d[row]);
    for (int lane = 0; lane < kWarp; ++lane) {
        const int group = lane >> 2, place = lane & 3;
        float* out = static_cast<const MmaArguments*>(warp.arguments[lane])->d;
        for (int i = 0; i < 4; ++i) out[i] = d[group + 8 * (i >> 1)][2 * place + (i & 1)];
    }
}

struct LdmatrixArguments {
    uint32_t* r;
    const uint16_t* row;
    int matrices;
    bool transposed;
};

// Lane 8·i + j gives the address of row j of matrix i; register i of a lane receives elements
// 2·(lane % 4), +1 of row lane / 4 of matrix i (transposed: of column lane / 4).
void complete_ldmatrix(Warp& warp) {
    const auto& first = *static_cast<const LdmatrixArguments*>(warp.arguments[0]);
    uint16_t matrix[4][8][8];
    for (int i = 0; i < 8 * first.matrices; ++i) {
        const auto& args = *static_cast<const LdmatrixArguments*>(warp.arguments[i]);
        std::memcpy(matrix[i / 8][i % 8], args.row, 16);
    }
    for (int lane = 0; lane < kWarp; ++lane) {
        const auto& args = *static_cast<const LdmatrixArguments*>(warp.arguments[lane]);
        const int row = lane / 4, column = 2 * (lane % 4);
        for (int i = 0; i < first.matrices; ++i) {
            const uint16_t low = args.transposed ? matrix[i][column][row] : matrix[i][row][column];
            const uint16_t high =
                args.transposed ? matrix[i][column + 1][row] : matrix[i][row][column + 1];
            args.r[i] = low | static_cast<uint32_t>(high) << 16;
        }
    }
}

// ------------------------------------------------------------------------------- asynchronous copies
void poison(unsigned char* to, std::size_t bytes) {
    const auto* pattern = reinterpret_cast<const unsigned char*>(&kPoison);
    for (std::size_t i = 0; i < bytes; ++i)
        to[i] = pattern[reinterpret_cast<uintptr_t>(to + i) % 4];
}

bool is_poison(const unsigned char* at, std::size_t bytes) {
    const auto* pattern = reinterpret_cast<const unsigned char*>(&kPoison);
    for (std::size_t i = 0; i < bytes; ++i)
        if (at[i] != pattern[reinterpret_cast<uintptr_t>(at + i) % 4]) return false;
    return true;
}

void set_in_flight(const Copy& copy, bool in_flight) {
    Watched* watch = watch_of(copy.to);
    const std::size_t offset = offset_in(*watch, copy.to);
    for (int i = 0; i < copy.bytes; i += 2) watch->cells[(offset + i) / 2].in_flight = in_flight;
}

void land(const Copy& copy) {
    if (std::memcmp(copy.seen, copy.from, copy.source_bytes))
        fail("the source of an asynchronous copy changed while it was in flight");
    if (!is_poison(copy.to, copy.bytes))
        fail("shared memory was written while an asynchronous copy to it was in flight");
    set_in_flight(copy, false);
    watch_shared(copy.to, copy.bytes, true);
    std::memset(copy.to, 0, copy.bytes);
    std::memcpy(copy.to, copy.from, copy.source_bytes);
}

// ------------------------------------------------------------------------------------ running a block
void poison_shared() {
    const auto statics = static_cast<std::size_t>(__stop_emu_shared - __start_emu_shared);
    poison(shared_arena, sizeof shared_arena);
    if (statics) poison(reinterpret_cast<unsigned char*>(__start_emu_shared), statics);
    dynamic_watch.start(shared_arena, dynamic_bytes, 0);
    static_watch.start(__start_emu_shared, statics, 0);
}

void prepare_thread(int id) {
    Thread& thread = threads[id];
    thread.id = id;
    const unsigned x = blockDim.x, y = blockDim.y;
    thread.index = {id % x, id / x % y, id / (x * y)};
    thread.committed_groups = 0;
    thread.copies.clear();
    prepare_stack(thread);
    set_runnable(thread);
}

void prepare_block() {
    n_done = n_at_barrier = barrier_sum = 0;
    warps_runnable = 0;
    first_epoch = ++block_epoch;
    starved_warp = static_cast<int>(random_bits() % n_warps);
    for (int i = 0; i < n_warps; ++i) warps[i] = Warp{};
    for (int i = 0; i < n_threads; ++i) prepare_thread(i);
    poison_shared();
}

void describe_deadlock() {
    int waiting[4] = {};
    int example[4] = {};
    for (int i = 0; i < n_threads; ++i) {
        ++waiting[int(threads[i].state)];
        example[int(threads[i].state)] = i;
    }
    const Warp& warp = warps[example[int(State::at_warp_op)] / kWarp];
    std::snprintf(error_text, error_size,
                  "block (%u, %u, %u): divergence: %d threads wait at a barrier (line %d), %d in a "
                  "warp operation (%s), %d have left",
                  blockIdx.x, blockIdx.y, blockIdx.z, waiting[int(State::at_barrier)],
                  last_barrier_line, waiting[int(State::at_warp_op)], op_names[int(warp.op)],
                  waiting[int(State::done)]);
    failed = true;
}

void run_block() {
    prepare_block();
    while (n_done < n_threads && !failed) {
        if (!warps_runnable) {
            describe_deadlock();
            return;
        }
        current = &threads[pick_thread()];
        threadIdx = current->index;
        emu_switch(&scheduler_stack_pointer, current->stack_pointer);
    }
}

void check_red_zone() {
    if (failed || is_poison(shared_arena + dynamic_bytes, sizeof shared_arena - dynamic_bytes)) return;
    std::snprintf(error_text, error_size, "block (%u, %u, %u) wrote behind its shared memory",
                  blockIdx.x, blockIdx.y, blockIdx.z);
    failed = true;
}

void fiber_main() {
    kernel_body(kernel_closure);
    check_second_writes();
    ++n_done;
    if (n_at_barrier)
        fail("leaves the kernel while others wait at the barrier of line %d", last_barrier_line);
    set_waiting(*current, State::done);
    to_scheduler();
    __builtin_unreachable();
}

// ------------------------------------------------------------------------------ faults become errors
sigjmp_buf fault_exit;
unsigned char fault_stack[64 << 10];

void on_fault(int signal) { siglongjmp(fault_exit, signal); }

struct FaultGuard {
    struct sigaction old_segv, old_bus;
    stack_t old_stack;
    FaultGuard() {
        stack_t stack{};
        stack.ss_sp = fault_stack;
        stack.ss_size = sizeof fault_stack;
        sigaltstack(&stack, &old_stack);
        struct sigaction action {};
        action.sa_handler = on_fault;
        action.sa_flags = SA_ONSTACK;
        sigaction(SIGSEGV, &action, &old_segv);
        sigaction(SIGBUS, &action, &old_bus);
    }
    ~FaultGuard() {
        sigaction(SIGSEGV, &old_segv, nullptr);
        sigaction(SIGBUS, &old_bus, nullptr);
        sigaltstack(&old_stack, nullptr);
    }
};

void report_fault() {
    std::snprintf(error_text, error_size,
                  "block (%u, %u, %u) thread (%u, %u, %u): invalid address", blockIdx.x, blockIdx.y,
                  blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    failed = true;
}

void run_grid() {
    const uint64_t blocks = uint64_t{gridDim.x} * gridDim.y * gridDim.z;
    for (uint64_t i = 0; i < blocks && !failed; ++i) {
        // Blocks run in any order on a card: forwards or backwards here, by seed.
        const uint64_t block = seed % 2 ? blocks - 1 - i : i;
        blockIdx = {static_cast<unsigned>(block % gridDim.x),
                    static_cast<unsigned>(block / gridDim.x % gridDim.y),
                    static_cast<unsigned>(block / (uint64_t{gridDim.x} * gridDim.y))};
        run_block();
        check_red_zone();
    }
}

bool refuse(const char* why) {
    std::snprintf(error_text, error_size, "%s", why);
    return failed = true;
}

bool refuse_launch(const Launch& how) {
    const uint64_t threads_asked = uint64_t{how.block.x} * how.block.y * how.block.z;
    const auto statics = static_cast<std::size_t>(__stop_emu_shared - __start_emu_shared);
    if (threads_asked % kWarp || !threads_asked)
        return refuse("the emulator runs whole warps: a block must be a multiple of 32 threads");
    if (threads_asked > kMaxThreads) return refuse("a block has at most 1,024 threads");
    if (how.shared_bytes + statics > kSharedLimit)
        return refuse("a block has at most 227 KiB of shared memory");
    if (!how.grid.x || !how.grid.y || !how.grid.z) return refuse("the grid is empty");
    return false;
}

void allocate_stacks() {
    if (stacks) return;
    void* memory = mmap(nullptr, kMaxThreads * kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    stacks = static_cast<unsigned char*>(memory);
}

}  // namespace

// --------------------------------------------------------------------------------------- the doors
void fail(const char* format, ...) {
    int used = std::snprintf(error_text, error_size, "block (%u, %u, %u) thread (%u, %u, %u): ",
                             blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y,
                             threadIdx.z);
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(error_text + used, error_size - used, format, arguments);
    va_end(arguments);
    failed = true;
    to_scheduler();   // never comes back: the launch is over
    __builtin_unreachable();
}

void yield() { to_scheduler(); }
void* dynamic_shared() { return shared_arena; }
int lane() { return current->id % kWarp; }

void check_atomic(const void* address, std::size_t bytes) {
    check_aligned(address, bytes, "atomic");
    if (!is_in_shared_arena(address)) watch_global(address, bytes, true, true);
}

int barrier(int line, int predicate) {
    static int result;
    if (n_done) fail("waits at the barrier of line %d, but %d threads have left", line, n_done);
    current->barrier_line = last_barrier_line = line;
    current->predicate = predicate;
    barrier_sum += predicate;
    if (++n_at_barrier < n_threads) {
        set_waiting(*current, State::at_barrier);
        to_scheduler();
        return result;
    }
    for (int i = 0; i < n_threads; ++i)
        if (threads[i].barrier_line != line)
            fail("waits at the barrier of line %d while thread %d waits at that of line %d", line, i,
                 threads[i].barrier_line);
    for (int i = 0; i < n_threads; ++i) set_runnable(threads[i]);
    result = barrier_sum;
    n_at_barrier = barrier_sum = 0;
    ++block_epoch;
    starved_warp = static_cast<int>(random_bits() % n_warps);
    to_scheduler();
    return result;
}

void warp_barrier(uint32_t mask) {
    converge(Op::sync, mask, nullptr, [](Warp& warp) { warp.epoch += warp.mask == kFullMask; });
}

uint64_t shuffle(uint32_t mask, uint64_t value, int source_lane) {
    struct Arguments {
        uint64_t value, result;
        int source;
    } arguments{value, 0, source_lane};
    converge(Op::shuffle, mask, &arguments, [](Warp& warp) {
        for (int i = 0; i < kWarp; ++i) {
            if (!(warp.arrived >> i & 1)) continue;
            auto& to = *static_cast<Arguments*>(warp.arguments[i]);
            const bool takes_part = warp.arrived >> to.source & 1;
            to.result = takes_part ? static_cast<Arguments*>(warp.arguments[to.source])->value
                                   : uint64_t{kPoison} << 32 | kPoison;
        }
    });
    return arguments.result;
}

uint32_t ballot(uint32_t mask, bool predicate) {
    struct Arguments {
        bool predicate;
        uint32_t result;
    } arguments{predicate, 0};
    converge(Op::ballot, mask, &arguments, [](Warp& warp) {
        uint32_t votes = 0;
        for (int i = 0; i < kWarp; ++i)
            if (warp.arrived >> i & 1)
                votes |= uint32_t{static_cast<Arguments*>(warp.arguments[i])->predicate} << i;
        for (int i = 0; i < kWarp; ++i)
            if (warp.arrived >> i & 1) static_cast<Arguments*>(warp.arguments[i])->result = votes;
    });
    return arguments.result;
}

void cp_async(void* shared, const void* global, int bytes, int source_bytes) {
    check_aligned(shared, bytes, "cp.async to shared memory");
    check_aligned(global, bytes, "cp.async from global memory");
    if (source_bytes && !is_global(global, source_bytes))
        fail("cp.async reads %d bytes that are not all in one global array", source_bytes);
    watch_shared(shared, bytes, true);
    watch_global(global, source_bytes, false);
    Copy copy{static_cast<unsigned char*>(shared), static_cast<const unsigned char*>(global), bytes,
              source_bytes, current->committed_groups, {}};
    std::memcpy(copy.seen, global, source_bytes);
    poison(copy.to, bytes);
    set_in_flight(copy, true);
    current->copies.push_back(copy);
    yield();
}

void cp_async_commit() {
    ++current->committed_groups;
    yield();
}

// A copy lands as late as it may: here, and not in an earlier wait that leaves its group in flight.
void cp_async_wait(int groups_left_in_flight) {
    const int complete = current->committed_groups - groups_left_in_flight;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < current->copies.size(); ++i) {
        const Copy copy = current->copies[i];
        if (copy.group < complete) land(copy);
        else current->copies[kept++] = copy;
    }
    current->copies.resize(kept);
    yield();
}

void ldmatrix(uint32_t* r, int matrices, bool transposed, const void* shared_row) {
    if (lane() < 8 * matrices) {
        check_aligned(shared_row, 16, "ldmatrix row");
        watch_shared(shared_row, 16, false);
    }
    LdmatrixArguments arguments{r, static_cast<const uint16_t*>(shared_row), matrices, transposed};
    converge(Op::ldmatrix, kFullMask, &arguments, complete_ldmatrix);
}

void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                  const float (&c)[4]) {
    MmaArguments arguments{d, a, b, c};
    converge(Op::mma, kFullMask, &arguments, complete_mma);
}

float half_to_float(uint16_t bits) { return half_table.value[bits]; }

uint16_t float_to_half(float value) {
    const uint32_t raw = bits<uint32_t>(value), magnitude = raw & 0x7fffffffu;
    const auto sign = static_cast<uint16_t>(raw >> 16 & 0x8000u);
    if (magnitude > 0x7f800000u) return sign | 0x7fff;   // what cvt.rn.f16.f32 makes of a NaN
    if (magnitude >= 0x477ff000u) return sign | 0x7c00;  // 65,520 and more round to infinity
    if (magnitude < 0x38800000u) {                       // subnormal: a multiple of 2^-24
        const float scaled = bits<float>(magnitude) * 0x1p24f;
        return sign | static_cast<uint16_t>(std::nearbyintf(scaled));
    }
    const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
    return sign | static_cast<uint16_t>((rounded - 0x38000000u) >> 13);
}

// The instruction may be off by 2^-22 near 1; the worst case is a bias, up or down by seed.
float fast_log2(float x) {
    if (std::fabs(x) < 0x1p-126f) return -HUGE_VALF;
    const double bias = static_cast<double>(seed % 3 == 0 ? 0 : seed % 3 == 1 ? 1 : -1) * 0x1p-22;
    return static_cast<float>(std::log2(static_cast<double>(x)) + bias);
}

int launch(const Launch& how, Body body, const void* closure, char* message, uint64_t message_size) {
    failed = false;
    error_text = message;
    error_size = message_size;
    message[0] = '\0';
    if (refuse_launch(how)) return 1;
    gridDim = how.grid;
    blockDim = how.block;
    n_threads = static_cast<int>(how.block.x * how.block.y * how.block.z);
    n_warps = n_threads / kWarp;
    dynamic_bytes = how.shared_bytes;
    seed = how.seed;
    block_epoch = 0;
    second_writes.clear();
    random_state = 0x9e3779b97f4a7c15u ^ (seed + 1) * 0xbf58476d1ce4e5b9u;
    kernel_body = body;
    kernel_closure = closure;
    allocate_stacks();
    FaultGuard guard;
    if (sigsetjmp(fault_exit, 1)) report_fault();
    else run_grid();
    current = nullptr;
    return failed;
}

}  // namespace emu

// ---------------------------------------------------------------- what the driver calls from Python
EMU_DOOR void emu_forget_arrays() { emu::n_arrays = 0; }
EMU_DOOR void emu_watch_array(const void* base, std::uint64_t bytes, std::uint64_t guard) {
    emu::Watched& array = emu::arrays[emu::n_arrays++];
    array.name = "global";
    array.start(base, bytes, guard);
}
EMU_DOOR float emu_half_to_float(std::uint16_t bits) { return emu::half_to_float(bits); }
EMU_DOOR std::uint16_t emu_float_to_half(float value) { return emu::float_to_half(value); }

// ------------------------------------------------------------------- the hooks of -fsanitize=thread
#define EMU_HOOKS(size)                                                                         \
    extern "C" void __tsan_read##size(void* p) {                                                \
        emu::check_vector(p, size);                                                             \
        emu::check_access(p, size, false);                                                      \
    }                                                                                           \
    extern "C" void __tsan_write##size(void* p) {                                               \
        emu::check_vector(p, size);                                                             \
        emu::check_access(p, size, true);                                                       \
    }                                                                                           \
    extern "C" void __tsan_unaligned_read##size(void* p) { __tsan_read##size(p); }              \
    extern "C" void __tsan_unaligned_write##size(void* p) { __tsan_write##size(p); }

namespace emu {
// A card faults where a vector is not aligned to its size; x86 would let it pass.
static void check_vector(const void* p, std::size_t bytes) {
    if (bytes > 1 && current && (is_in_shared_arena(p) || is_global(p, bytes)))
        check_aligned(p, bytes, "load or store");
}
}  // namespace emu

EMU_HOOKS(1)
EMU_HOOKS(2)
EMU_HOOKS(4)
EMU_HOOKS(8)
EMU_HOOKS(16)
extern "C" void __tsan_read_range(void* p, std::size_t n) { emu::check_access(p, n, false); }
extern "C" void __tsan_write_range(void* p, std::size_t n) { emu::check_access(p, n, true); }
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void*, void*) {}
