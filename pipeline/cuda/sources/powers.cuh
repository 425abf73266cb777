// Powers by the same series as in pipeline.cpu.separable, which says how exact they are.
#pragma once
#include <memory.cuh>

#define LN_2 0.693147180559945f

DEVICE float exponential2(float x) {
    const float inside = x > -126.0f ? x : -126.0f;
    const float whole = floorf(inside + 0.5f);
    const float t = (inside - whole) * LN_2;
    float series = 1.0f / 24 + t * (1.0f / 120 + t * (1.0f / 720));
    series = 1.0f + t * (1.0f + t * (1.0f / 2 + t * (1.0f / 6 + t * series)));
    return series * float_of((int(whole) + 127) << 23);
}

DEVICE float logarithm2(float x) {
    const int bits = bits_of(x);
    const int exponent = (bits - 0x3F3504F3) >> 23;
    const float mantissa = float_of(bits - int((unsigned int)exponent << 23));
    const float s = (mantissa - 1.0f) / (mantissa + 1.0f);
    const float q = s * s;
    const float series = 1.0f + q * (1.0f / 3 + q * (1.0f / 5 + q * (1.0f / 7)));
    return float(exponent) + s * series * (2.0f / LN_2);
}

DEVICE float power(float base, float exponent) { return exponential2(logarithm2(base) * exponent); }
