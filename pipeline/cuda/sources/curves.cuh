// Transfer curves, as in pipeline.cpu.separable, which says where they come from.
//
// Given when compiling: CURVE: 0 none, 1 power, 2 PQ, 3 HLG.
#pragma once
#include <powers.cuh>

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
