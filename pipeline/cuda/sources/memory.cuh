// Loads and stores, four neighbours at once where they are aligned.
#pragma once
#include <platform.cuh>

typedef unsigned char uint8;
typedef unsigned short uint16;
typedef unsigned long long Address;  // every field of this type in an argument structure is a device address

DEVICE float widened(float value) { return value; }
DEVICE float widened(uint8 value) { return float(value); }
DEVICE float widened(uint16 value) { return float(value); }

DEVICE void convert(float from, float& to) { to = from; }
DEVICE void convert(float from, Half& to) { to = rounded_to_half(from); }

template <typename T>
struct alignas(4 * sizeof(T)) Four {
    T at[4];
};

DEVICE int least(int a, int b) { return a < b ? a : b; }
DEVICE int clamped(int index, int length) { return index < 0 ? 0 : least(index, length - 1); }

template <typename T>
DEVICE T* row_of(Address plane, long long pitch_bytes, int row) {
    return (T*)(plane + (unsigned long long)(pitch_bytes * row));
}

template <typename T>
DEVICE bool is_aligned(const T* address) {
    return ((Address)address & (sizeof(Four<T>) - 1)) == 0;
}

// Up to four items from `from` on; those behind `count` are left as they were.
template <typename T>
DEVICE void load_four(const T* from, int count, T (&to)[4]) {
    if (count >= 4 && is_aligned(from)) {
        const Four<T> four = *(const Four<T>*)from;
        UNROLL
        for (int j = 0; j < 4; ++j) to[j] = four.at[j];
        return;
    }
    UNROLL
    for (int j = 0; j < 4; ++j)
        if (j < count) to[j] = from[j];
}

template <typename T>
DEVICE void store_four(T* to, int count, const T (&from)[4]) {
    if (count >= 4 && is_aligned(to)) {
        Four<T> four;
        UNROLL
        for (int j = 0; j < 4; ++j) four.at[j] = from[j];
        *(Four<T>*)to = four;
        return;
    }
    UNROLL
    for (int j = 0; j < 4; ++j)
        if (j < count) to[j] = from[j];
}
