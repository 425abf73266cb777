// Loads and stores of neighbours, in as few accesses as their address allows.
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

// N neighbours that one or more whole accesses move; no access is wider than 16 bytes.
template <typename T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Pack {
    T at[N];
};

DEVICE constexpr int rounded_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }
template <typename From, typename To>
struct OfSameConstness {
    typedef To Type;
};
template <typename From, typename To>
struct OfSameConstness<const From, To> {
    typedef const To Type;
};

DEVICE int least(int a, int b) { return a < b ? a : b; }
DEVICE int clamped(int index, int length) { return index < 0 ? 0 : least(index, length - 1); }

// Mirrored beyond the edges, edge item repeated: 1 0 | 0 1 2 | 2 1. Farther out than that: some item.
DEVICE int mirrored(int index, int length) {
    return clamped(index < 0 ? -1 - index : least(index, 2 * length - 1 - index), length);
}

template <typename T>
DEVICE T* row_of(Address plane, long long pitch_bytes, int row) {
    // A pointer first: the compiler then knows it to be one of global memory.
    typedef typename OfSameConstness<T, char>::Type Byte;
    return (T*)((Byte*)plane + pitch_bytes * row);
}

// From an address that is a multiple of the pack's alignment.
template <typename T, int N>
DEVICE void load_aligned(const T* from, T (&to)[N]) {
    const Pack<T, N> pack = *(const Pack<T, N>*)from;
    UNROLL
    for (int j = 0; j < N; ++j) to[j] = pack.at[j];
}

// Four items as they lie in memory. Nothing waits for a load of them before they are widened; of four small items the
// compiler takes the words apart at once.
template <typename T>
struct Four {
    unsigned int words[sizeof(T)];
};

template <typename T>
DEVICE Four<T> four_at(const T* from) {
    const Pack<unsigned int, sizeof(T)> pack = *(const Pack<unsigned int, sizeof(T)>*)from;
    Four<T> four;
    UNROLL
    for (int i = 0; i < int(sizeof(T)); ++i) four.words[i] = pack.at[i];
    return four;
}

// Several of them, in as few accesses as an address that is a multiple of their size, or of 16 bytes, allows.
template <typename T, int N>
DEVICE void fours_at(const T* from, Four<T> (&to)[N]) {
    typedef Pack<unsigned int, N * sizeof(T) < 4 ? N * int(sizeof(T)) : 4> Words;
    constexpr int kWords = sizeof(Words) / 4;
    UNROLL
    for (int i = 0; i < N * int(sizeof(T)) / kWords; ++i) {
        const Words words = ((const Words*)from)[i];
        UNROLL
        for (int j = 0; j < kWords; ++j) {
            const int word = i * kWords + j;
            to[word / int(sizeof(T))].words[word % int(sizeof(T))] = words.at[j];
        }
    }
}

DEVICE Four<float> four_of(float a, float b, float c, float d) {
    return {{(unsigned int)bits_of(a), (unsigned int)bits_of(b), (unsigned int)bits_of(c), (unsigned int)bits_of(d)}};
}
DEVICE Four<Half> four_of(Half a, Half b, Half c, Half d) {
    return {{a.bits | (unsigned int)b.bits << 16, c.bits | (unsigned int)d.bits << 16}};
}

DEVICE void widen(const Four<float>& four, float (&to)[4]) {
    UNROLL
    for (int j = 0; j < 4; ++j) to[j] = float_of(int(four.words[j]));
}
DEVICE void widen(const Four<Half>& four, float (&to)[4]) {
    widen_halves(four.words[0], to[0], to[1]);
    widen_halves(four.words[1], to[2], to[3]);
}

template <typename T, int N>
DEVICE bool is_aligned(const T* address) {
    return ((Address)address & (alignof(Pack<T, N>) - 1)) == 0;
}

// Items from `from` on; with a `count` below N, those behind it are left as they were.
template <typename T, int N>
DEVICE void load(const T* from, int count, T (&to)[N]) {
    if (count >= N && is_aligned<T, N>(from)) return load_aligned(from, to);
    UNROLL
    for (int j = 0; j < N; ++j)
        if (j < count) to[j] = from[j];
}

DEVICE unsigned int bits_in_word(uint8 value) { return value; }
DEVICE unsigned int bits_in_word(uint16 value) { return value; }
DEVICE unsigned int bits_in_word(Half value) { return value.bits; }
DEVICE unsigned int bits_in_word(float value) { return (unsigned int)bits_of(value); }

template <typename T, int N>
DEVICE void store(T* to, int count, const T (&from)[N]) {
    if (count >= N && is_aligned<T, N>(to)) {
        if (N * sizeof(T) % 4 != 0) {
            Pack<T, N> pack;
            UNROLL
            for (int j = 0; j < N; ++j) pack.at[j] = from[j];
            *(Pack<T, N>*)to = pack;
            return;
        }
        constexpr int kItems = 4 / sizeof(T);                                       // in a word
        constexpr int kWords = int(N * sizeof(T)) < 16 ? int(N * sizeof(T)) / 4 : 4;  // in an access
        constexpr int kTimes = N / (kItems * (kWords ? kWords : 1));
        UNROLL
        for (int time = 0; time < kTimes; ++time) {
            unsigned int words[kWords ? kWords : 1];
            UNROLL
            for (int word = 0; word < kWords; ++word) {
                words[word] = 0;
                UNROLL
                for (int j = 0; j < kItems; ++j)
                    words[word] |= bits_in_word(from[(time * kWords + word) * kItems + j]) << (32 / kItems * j);
            }
            store_words(to + time * kWords * kItems, words);
        }
        return;
    }
    UNROLL
    for (int j = 0; j < N; ++j)
        if (j < count) to[j] = from[j];
}
