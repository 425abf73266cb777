// Hopper's own instructions (target sm_90a), as PTX: NVRTC's wheel brings no headers. Source of all forms: PTX ISA 8.7,
// "Asynchronous warpgroup level matrix instructions", "Data movement: cp.async", "Parallel synchronization: mbarrier".
#pragma once
#include "platform.cuh"

DEVICE unsigned int shared_address(const void* pointer) { return (unsigned int)__cvta_generic_to_shared(pointer); }

DEVICE void barrier_init(unsigned int barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
DEVICE void barrier_arrive_if(bool condition, unsigned int barrier) {
    asm volatile("{.reg .b64 t; .reg .pred p; setp.ne.b32 p, %0, 0; @p mbarrier.arrive.shared::cta.b64 t, [%1];}" ::"r"(
                     (int)condition),
                 "r"(barrier)
                 : "memory");
}
DEVICE void barrier_wait(unsigned int barrier, int parity) {
    asm volatile(
        "{.reg .pred p;\n"
        "AGAIN: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
        "@p bra DONE;\n"
        "bra AGAIN;\n"
        "DONE: }" ::"r"(barrier), "r"(parity)
        : "memory");
}

// Arrives, and lets the barrier wait for that many bytes that will be copied.
DEVICE void barrier_expect(unsigned int barrier, int bytes) {
    asm volatile("{.reg .b64 t; mbarrier.arrive.expect_tx.shared::cta.b64 t, [%0], %1;}" ::"r"(barrier), "r"(bytes)
                 : "memory");
}

// What the driver makes of a tensor's address, sizes and box (cuTensorMapEncodeTiled).
struct alignas(64) TensorMap {
    unsigned long long words[16];
};

// A box of a tensor, and neighbouring bytes, from global to shared memory; `barrier` counts the bytes that arrived.
DEVICE void load_box_4d(unsigned int to, const TensorMap& map, int a, int b, int c, int d, unsigned int barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
        "[%6];" ::"r"(to), "l"(&map), "r"(a), "r"(b), "r"(c), "r"(d), "r"(barrier)
        : "memory");
}
DEVICE void load_box_5d(unsigned int to, const TensorMap& map, int a, int b, int c, int d, int e, unsigned int barrier) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5, %6}], "
        "[%7];" ::"r"(to), "l"(&map), "r"(a), "r"(b), "r"(c), "r"(d), "r"(e), "r"(barrier)
        : "memory");
}
DEVICE void load_bytes(unsigned int to, const void* from, int bytes, unsigned int barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
}

// What ordinary instructions wrote to shared memory becomes visible to wgmma.
DEVICE void fence_for_wgmma() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

template <int COUNT>
DEVICE void more_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
DEVICE void fewer_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

DEVICE void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until all but the last LEFT groups of products are done.
template <int LEFT>
DEVICE void wgmma_wait_but() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}

// Keeps the compiler from reading or writing sums anywhere but here: it does not know that wgmma runs on after it was
// issued.
template <int N>
DEVICE void settle(float (&d)[N]) {
    UNROLL
    for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// store_words without a branch around it.
DEVICE void store_words_if(bool condition, void* to, const unsigned int (&w)[1]) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %0, 0; @p st.global.u32 [%1], %2;}" ::"r"((int)condition), "l"(to), "r"(w[0])
                 : "memory");
}
DEVICE void store_words_if(bool condition, void* to, const unsigned int (&w)[2]) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %0, 0; @p st.global.v2.u32 [%1], {%2, %3};}" ::"r"((int)condition), "l"(to),
                 "r"(w[0]), "r"(w[1])
                 : "memory");
}
DEVICE void store_words_if(bool condition, void* to, const unsigned int (&w)[4]) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %0, 0; @p st.global.v4.u32 [%1], {%2, %3, %4, %5};}" ::"r"((int)condition),
                 "l"(to), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3])
                 : "memory");
}

// Two floats to two halves in one word, the first in the lower half.
DEVICE unsigned int halves_of(float low, float high) {
    unsigned int word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

// Numbers of the registers of sums in the text of an instruction, and those registers, by fours.
#define SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4(i + 4), SUMS_4(i + 8), SUMS_4(i + 12)
#define SUMS_48(i) SUMS_16(i), SUMS_16(i + 16), SUMS_16(i + 32)
#define NUMBERS_12 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11"
#define NUMBERS_48 NUMBERS_12 \
    ", %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, " \
    "%28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, " \
    "%44, %45, %46, %47"
#define NUMBERS_72 NUMBERS_48 \
    ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
    "%64, %65, %66, %67, %68, %69, %70, %71"
#define NUMBERS_96 NUMBERS_72 \
    ", %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, " \
    "%88, %89, %90, %91, %92, %93, %94, %95"
#define NUMBERS_128 NUMBERS_96 \
    ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// Two floats to two numbers of e4m3 in 16 bits, the first in the lower byte; what is too large becomes the largest.
DEVICE unsigned int e4m3_of(float low, float high) {
    unsigned short pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
    return pair;
}

// D[64 x N] += A[64 x K] B[N x K]^T: 16 numbers of float16 deep or 32 of e4m3, float32 sums; both operands K-major in
// shared memory.
#define WGMMA_OF(NAME, TYPES, END, N, COUNT, NUMBERS, A, B, ...)                                             \
    DEVICE void NAME(float (&d)[COUNT], unsigned long long a, unsigned long long b) {                        \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" #N TYPES " {" NUMBERS "}, %" #A ", %" #B ", 1, 1, 1" END \
                     : __VA_ARGS__                                                                           \
                     : "l"(a), "l"(b));                                                                      \
    }
#define WGMMA(...)                                                \
    WGMMA_OF(multiply, "k16.f32.f16.f16", ", 0, 0;", __VA_ARGS__) \
    WGMMA_OF(multiply_e4m3, "k32.f32.e4m3.e4m3", ";", __VA_ARGS__)
WGMMA(24, 12, NUMBERS_12, 12, 13, SUMS_4(0), SUMS_4(4), SUMS_4(8))
WGMMA(96, 48, NUMBERS_48, 48, 49, SUMS_48(0))
WGMMA(144, 72, NUMBERS_72, 72, 73, SUMS_48(0), SUMS_16(48), SUMS_4(64), SUMS_4(68))
WGMMA(192, 96, NUMBERS_96, 96, 97, SUMS_48(0), SUMS_48(48))
WGMMA(256, 128, NUMBERS_128, 128, 129, SUMS_48(0), SUMS_48(48), SUMS_16(96), SUMS_16(112))
