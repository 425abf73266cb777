// Stands in for engines/cudnn/sources/platform.cuh where a C++ compiler makes host functions of the kernels: blocks and
// threads are loops, one after the other, and memory is the host's.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#define DEVICE static inline
#define DEVICE_MEMBER inline
#define SHARED
#define EACH_THREAD for (int thread = 0; thread < THREADS; ++thread)
#define SYNCHRONIZE ((void)0)
#define BLOCK_X block_x
#define BLOCK_Y block_y
#define BLOCK_Z block_z
#define UNROLL
#define NOT_UNROLLED

#define KERNEL(name, Arguments)                                                                  \
    static void name##_block(const Arguments& a, int block_x, int block_y, int block_z);         \
    extern "C" unsigned long long name##_argument_bytes() { return sizeof(Arguments); }          \
    extern "C" void name(const Arguments* a, int blocks_x, int blocks_y, int blocks_z) {         \
        for (int z = 0; z < blocks_z; ++z)                                                       \
            for (int y = 0; y < blocks_y; ++y)                                                   \
                for (int x = 0; x < blocks_x; ++x) name##_block(*a, x, y, z);                    \
    }                                                                                            \
    static void name##_block(const Arguments& a, [[maybe_unused]] int block_x, [[maybe_unused]] int block_y, \
                             [[maybe_unused]] int block_z)

DEVICE int bits_of(float value) {
    int bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

DEVICE float float_of(int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <int N>
DEVICE void store_words(void* to, const unsigned int (&words)[N]) {
    std::memcpy(to, words, sizeof words);
}

// binary16 of IEEE 754.
struct Half {
    unsigned short bits;
};

DEVICE float widened(Half value) {
    const int sign = (value.bits & 0x8000) << 16, exponent = (value.bits >> 10) & 31, fraction = value.bits & 1023;
    if (exponent == 31) return float_of(sign | 0x7F800000 | fraction << 13);
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * std::ldexp(float(fraction), -24);
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

DEVICE void widen_halves(unsigned int word, float& low, float& high) {
    low = widened(Half{(unsigned short)word});
    high = widened(Half{(unsigned short)(word >> 16)});
}

DEVICE Half rounded_to_half(float value) {
    const unsigned short sign = (bits_of(value) >> 16) & 0x8000;
    const float size = std::fabs(value);
    if (std::isnan(size)) return Half{(unsigned short)(sign | 0x7FFF)};
    if (size >= 65520.0f) return Half{(unsigned short)(sign | 0x7C00)};  // halfway between the largest half and 2^16
    int exponent;
    std::frexp(size, &exponent);
    if (size == 0.0f || exponent < -13) exponent = -13;  // below 2^-14: steps of 2^-24
    const int steps = int(std::nearbyint(std::ldexp(size, 11 - exponent)));  // to even; of 1024 to 2048 if normal
    return Half{(unsigned short)(sign | (((exponent + 13) << 10) + steps))};
}

DEVICE void add_one(unsigned int* counter) { ++*counter; }
DEVICE void raise_to(unsigned int* most, unsigned int value) {
    if (value > *most) *most = value;
}
