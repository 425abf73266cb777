// Transfer curves, the same series as in pipeline.cpu.separable, which says where they come from and how exact they are.
//
// Given when compiling: CURVE: 0 none, 1 power, 2 PQ, 3 HLG.
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

DEVICE float decoded(float value, const float (&c)[6]) {
    if (CURVE == 0) return value;
    const float size = fabsf(value);
    const float code = size < 1.0f ? size : 1.0f;
    float light;
    if (CURVE == 1) {
        const float curved = power((code + c[1]) / (1.0f + c[1]), c[0]);
        light = (code <= c[2] ? code / c[4] : curved) + (size - code) * c[5];
    } else if (CURVE == 2) {
        const float root = power(code, 1.0f / c[1]);
        const float above = root - c[2] > 0.0f ? root - c[2] : 0.0f;
        light = power(above / (c[3] - c[4] * root), 1.0f / c[0]) + (size - code) * c[5];
    } else {
        const float curved = (exponential2((code - c[2]) / (c[0] * LN_2)) + c[1]) / 12.0f;
        light = (code <= 0.5f ? code * code / 3.0f : curved) + (size - code) * c[3];
    }
    return value >= 0.0f ? light : -light;
}

DEVICE float encoded(float value, const float (&c)[6]) {
    if (CURVE == 0) return value;
    const float size = fabsf(value);
    const float light = size < 1.0f ? size : 1.0f;
    float code;
    if (CURVE == 1) {
        const float curved = power(light, 1.0f / c[0]) * (1.0f + c[1]) - c[1];
        code = (light <= c[3] ? light * c[4] : curved) + (size - light) / c[5];
    } else if (CURVE == 2) {
        const float root = power(light, c[0]);
        code = power((c[2] + c[3] * root) / (1.0f + c[4] * root), c[1]) + (size - light) / c[5];
    } else {
        const float bright = light > 1.0f / 12 ? light : 1.0f / 12;
        const float curved = c[0] * LN_2 * logarithm2(12.0f * bright - c[1]) + c[2];
        code = (light <= 1.0f / 12 ? sqrtf(3.0f * light) : curved) + (size - light) / c[3];
    }
    return value >= 0.0f ? code : -code;
}
