// Codes of HDR films to what a network sees of them, and back: pipeline.cpu.seen, in the same order of steps.
//
// Given when compiling: SEEN: 0 the codes themselves, 2 PQ, 3 HLG. `c` is SeenCurve.constants.
#pragma once
#include <powers.cuh>

DEVICE float shown(float value, const float (&c)[11]) {
    if (SEEN == 0) return value;
    const float size = fabsf(value);
    const float code = size < 1.0f ? size : 1.0f;
    float base;
    if (SEEN == 2) {
        const float root = power(code, c[9]);
        const float above = root - c[0] > 0.0f ? root - c[0] : 0.0f;
        base = above / (c[1] - c[2] * root);
    } else {
        const float curved = (exponential2((code - c[2]) / (c[0] * LN_2)) + c[1]) / 12.0f;
        base = code <= 0.5f ? code * code / 3.0f : curved;
    }
    const float seen = c[3] * power(base, c[7]) + (size - code) * c[4];
    return value >= 0.0f ? seen : -seen;
}

DEVICE float restored(float value, const float (&c)[11]) {
    if (SEEN == 0) return value;
    const float size = fabsf(value);
    const float seen = size < c[3] ? size : c[3];
    const float raised = power(seen * c[5], c[8]);
    float code;
    if (SEEN == 2) {
        code = power((c[0] + c[1] * raised) / (1.0f + c[2] * raised), c[10]);
    } else {
        const float bright = raised > 1.0f / 12 ? raised : 1.0f / 12;
        const float curved = c[0] * LN_2 * logarithm2(12.0f * bright - c[1]) + c[2];
        code = raised <= 1.0f / 12 ? sqrtf(3.0f * raised) : curved;
    }
    code += (size - seen) * c[6];
    return value >= 0.0f ? code : -code;
}
