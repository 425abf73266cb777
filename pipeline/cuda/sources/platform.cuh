// What the kernels need of the compiler, without any CUDA header: NVRTC's wheel brings none. The tests bring a file of
// this name that says the same to a C++ compiler, so that the very same kernels run, and are checked, on a processor.
#pragma once

// A kernel's body is a sequence of EACH_THREAD blocks with SYNCHRONIZE between them; no variable but those in SHARED
// memory lives from one block to the next. THREADS is given on the command line.
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__
#define KERNEL(name, Arguments) \
    extern "C" __global__ void __launch_bounds__(THREADS) name(const __grid_constant__ Arguments a)
#define EACH_THREAD if (const int thread = threadIdx.x; true)
#define SYNCHRONIZE __syncthreads()
#define BLOCK_X int(blockIdx.x)
#define BLOCK_Y int(blockIdx.y)
#define BLOCK_Z int(blockIdx.z)
#define UNROLL _Pragma("unroll")

struct Half {
    unsigned short bits;
};

DEVICE float widened(Half value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

DEVICE Half rounded_to_half(float value) {
    Half result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}

DEVICE int bits_of(float value) { return __float_as_int(value); }
DEVICE float float_of(int bits) { return __int_as_float(bits); }
