// What the kernels need of the compiler, without any CUDA header: NVRTC's wheel brings none. The tests bring a file of
// this name that says the same to a C++ compiler, so that the very same kernels run, and are checked, on a processor.
#pragma once

// A kernel's body is a sequence of EACH_THREAD blocks with SYNCHRONIZE between them; no variable but those in SHARED
// memory lives from one block to the next. THREADS is given on the command line.
#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define SHARED __shared__
#define KERNEL(name, Arguments) \
    extern "C" __global__ void __launch_bounds__(THREADS) name(const __grid_constant__ Arguments a)
#define EACH_THREAD if (const int thread = threadIdx.x; true)
#define SYNCHRONIZE __syncthreads()
#define BLOCK_X int(blockIdx.x)
#define BLOCK_Y int(blockIdx.y)
#define BLOCK_Z int(blockIdx.z)
#define UNROLL _Pragma("unroll")
#define NOT_UNROLLED _Pragma("unroll 1")

struct Half {
    unsigned short bits;
};

DEVICE float widened(Half value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

// Both halves of a word, the lower one first.
DEVICE void widen_halves(unsigned int word, float& low, float& high) {
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}"
        : "=f"(low), "=f"(high)
        : "r"(word));
}

DEVICE Half rounded_to_half(float value) {
    Half result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}

// One store of neighbouring words to global memory, at an address that is a multiple of their size. Written out: of a
// structure of words the compiler makes several stores where there are many.
DEVICE void store_words(void* to, const unsigned int (&w)[1]) { *(unsigned int*)to = w[0]; }
DEVICE void store_words(void* to, const unsigned int (&w)[2]) {
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(w[0]), "r"(w[1]) : "memory");
}
DEVICE void store_words(void* to, const unsigned int (&w)[4]) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3])
                 : "memory");
}

DEVICE int bits_of(float value) { return __float_as_int(value); }
DEVICE float float_of(int bits) { return __int_as_float(bits); }

// Counters in global memory that all threads share.
DEVICE void add_one(unsigned int* counter) { atomicAdd(counter, 1u); }
DEVICE void raise_to(unsigned int* most, unsigned int value) { atomicMax(most, value); }
