// One fused convolution the slow and plain way, at some pixels: what a fast kernel stored there is compared with it.
// With POISON the stored values are overwritten with NaN instead, so that a kernel that writes nothing, or elsewhere,
// is not taken for one that is right. Needs THREADS and POISON (0 or 1).
#include "platform.cuh"

enum { NOTHING, LEAKY, PRELU, MULTIPLY, ADD_HALF, ADD_FLOAT };
enum { MOST_OPERATIONS = 6 };

// The first number of a tensor of (picture, row, pixel, channel), and how far apart its numbers are.
struct Spot {
    unsigned long long address;
    long long picture, row, pixel;
};

struct Operation {
    Spot operand;  // PRELU: a slope a channel; ADD: what is added
    float number;  // LEAKY: the slope; MULTIPLY: the factor
    int kind;
};

struct CheckArguments {
    Spot source, target, wide_target;        // float16, float16, float32; a target that is not there has address 0
    unsigned long long kernel, bias, verdict;  // (outputs, rows, columns, inputs) float16; float32; two words
    Operation operations[MOST_OPERATIONS];
    long long stride, edge_stride;  // between pixels that are looked at, and between those along the edges
    int batch, height, width;       // of the result
    int source_height, source_width, inputs;
    int rows, columns, pad_top, pad_left, outputs;
    int samples, edge_samples;      // pixels in all, and of these along the edges
    int factor, colours, is_half;   // of a planar target: pixel shuffle, colours, float16 or float32
    float share;                    // of all products' sizes: what float32 may lose in adding them up
    unsigned long long image, picture;  // a planar target and what is added to it; 0 if there is none
    Spot narrow_target;                 // e4m3
    unsigned long long descale;         // a factor an output, where source and kernel are e4m3; otherwise 0
    float narrow_factor;                // of what is stored in e4m3
    int unused;
};

DEVICE long long at_of(const Spot& spot, long long n, long long y, long long x) {
    return n * spot.picture + y * spot.row + x * spot.pixel;
}

// Largest difference that rounding explains: of the stored value, half a unit in the last place of float16 (2^-11) and
// as much again for a second rounding; of the sum, what float32 loses while it adds values that may cancel.
DEVICE float allowed(float value, float lost) {
    const float magnitude = value < 0 ? -value : value;
    return 1.0e-3f * magnitude + lost + 1.0e-6f;
}

// A number of e4m3. Source: Micikevicius et al. 2022, "FP8 formats for deep learning", table 1.
DEVICE float widened_e4m3(unsigned char bits) {
    const int sign = (bits & 0x80) << 24, exponent = bits >> 3 & 15, fraction = bits & 7;
    if (exponent == 15 && fraction == 7) return float_of(0x7FFFFFFF);
    if (exponent == 0) return float_of(sign | bits_of(fraction * 0.001953125f));
    return float_of(sign | (exponent + 120) << 23 | fraction << 20);
}

// What rounding to e4m3 explains: half a unit in the last place, 2^-4 of a number and 2^-10 near zero, and a little more.
DEVICE float allowed_e4m3(float value, float lost) { return 0.064f * (value < 0 ? -value : value) + 0.001f + lost; }

DEVICE float cut_to_e4m3(float value) { return value > 448.0f ? 448.0f : value < -448.0f ? -448.0f : value; }

DEVICE void judge_ratio(float ratio, unsigned int* verdict) {
    if (ratio <= 1.0f) {
        raise_to(verdict + 1, (unsigned int)bits_of(ratio));
    } else {  // also where it is no number
        add_one(verdict);
        raise_to(verdict + 1, (unsigned int)bits_of(ratio > 1.0f && ratio < 1.0e30f ? ratio : 1.0e30f));
    }
}

DEVICE void judge(float got, float rounded, float value, float lost, unsigned int* verdict) {
    if (got == rounded) return;
    const float difference = got - value, error = difference < 0 ? -difference : difference;
    judge_ratio(error / allowed(value, lost), verdict);
}

DEVICE void judge_e4m3(float got, float value, float lost, unsigned int* verdict) {
    const float difference = got - value;
    judge_ratio((difference < 0 ? -difference : difference) / allowed_e4m3(value, lost), verdict);
}

KERNEL(check, CheckArguments) {
    EACH_THREAD {
        const long long item = (long long)BLOCK_X * THREADS + thread;
        const int o = int(item % a.outputs), sample = int(item / a.outputs);
        if (sample < a.samples) {
            long long n, y, x;
            if (sample < a.edge_samples) {
                const long long lines = 2LL * a.width + 2LL * a.height;
                long long place = sample * a.edge_stride % (a.batch * lines);
                n = place / lines;
                place %= lines;
                if (place < 2LL * a.width) {
                    y = place < a.width ? 0 : a.height - 1;
                    x = place % a.width;
                } else {
                    place -= 2LL * a.width;
                    y = place % a.height;
                    x = place < a.height ? 0 : a.width - 1;
                }
            } else {
                const long long pixels = (long long)a.height * a.width;
                const long long place = sample * a.stride % (a.batch * pixels);
                n = place / pixels;
                y = place % pixels / a.width;
                x = place % a.width;
            }
            Half* target = (Half*)a.target.address + at_of(a.target, n, y, x) + o;
            float* wide_target = (float*)a.wide_target.address + at_of(a.wide_target, n, y, x) + o;
            unsigned char* narrow_target = (unsigned char*)a.narrow_target.address + at_of(a.narrow_target, n, y, x) + o;
            // the place in a planar target: output o is (colour, row, column) of factor x factor pixels
            const int block = a.factor * a.factor, colour = a.picture ? o / block : 0;
            const bool is_planar = a.picture && colour < a.colours;
            long long there = 0;
            if (is_planar) {
                const long long line = (n * a.colours + colour) * a.height * a.factor + y * a.factor + o % block / a.factor;
                there = (line * a.width + x) * a.factor + o % a.factor;
            }
            if (POISON) {
                if (is_planar && a.is_half) ((Half*)a.picture)[there] = Half{0x7FFF};
                if (is_planar && !a.is_half) ((float*)a.picture)[there] = float_of(0x7FFFFFFF);
                if (a.target.address) *target = Half{0x7FFF};
                if (a.wide_target.address) *wide_target = float_of(0x7FFFFFFF);
                if (a.narrow_target.address) *narrow_target = 0x7F;
            } else {
                float value = 0, size = 0;
                const long long first_weight = (long long)o * a.rows * a.columns * a.inputs;
                NOT_UNROLLED
                for (int tap = 0; tap < a.rows * a.columns; ++tap) {
                    const long long row = y + tap / a.columns - a.pad_top, column = x + tap % a.columns - a.pad_left;
                    if (row >= 0 && row < a.source_height && column >= 0 && column < a.source_width) {
                        const long long from = at_of(a.source, n, row, column), at = first_weight + tap * a.inputs;
                        for (int channel = 0; channel < a.inputs; ++channel) {
                            const float part =
                                a.descale ? widened_e4m3(((const unsigned char*)a.source.address)[from + channel]) *
                                                widened_e4m3(((const unsigned char*)a.kernel)[at + channel])
                                          : widened(((const Half*)a.source.address)[from + channel]) *
                                                widened(((const Half*)a.kernel)[at + channel]);
                            value += part;
                            size += part < 0 ? -part : part;
                        }
                    }
                }
                if (a.descale) {
                    value *= ((const float*)a.descale)[o];
                    size *= ((const float*)a.descale)[o];
                }
                const float bias = ((const float*)a.bias)[o];
                value += bias;
                size += bias < 0 ? -bias : bias;
                NOT_UNROLLED
                for (int index = 0; index < MOST_OPERATIONS; ++index) {
                    const Operation& operation = a.operations[index];
                    float other = 0;
                    switch (operation.kind) {
                        case LEAKY:
                            if (value < 0) value *= operation.number;
                            break;
                        case PRELU:
                            if (value < 0) value *= ((const float*)operation.operand.address)[o];
                            break;
                        case MULTIPLY:
                            value *= operation.number;
                            size *= operation.number < 0 ? -operation.number : operation.number;
                            break;
                        case ADD_HALF:
                            other = widened(((const Half*)operation.operand.address)[at_of(operation.operand, n, y, x) + o]);
                            break;
                        case ADD_FLOAT:
                            other = ((const float*)operation.operand.address)[at_of(operation.operand, n, y, x) + o];
                            break;
                        default:
                            break;
                    }
                    value += other;
                    size += other < 0 ? -other : other;
                }
                unsigned int* verdict = (unsigned int*)a.verdict;
                const float lost = a.share * size;
                if (a.target.address) judge(widened(*target), widened(rounded_to_half(value)), value, lost, verdict);
                if (a.wide_target.address) judge(*wide_target, value, value, lost, verdict);
                if (a.narrow_target.address)
                    judge_e4m3(widened_e4m3(*narrow_target), cut_to_e4m3(value * a.narrow_factor),
                               lost * a.narrow_factor, verdict);
                if (is_planar) {
                    const long long at = ((n * a.colours + colour) * a.height + y) * a.width + x;
                    if (a.image && a.is_half) value += widened(((const Half*)a.image)[at]);
                    if (a.image && !a.is_half) value += ((const float*)a.image)[at];
                    if (a.is_half)
                        judge(widened(((const Half*)a.picture)[there]), widened(rounded_to_half(value)), value, lost, verdict);
                    else
                        judge(((const float*)a.picture)[there], value, value, lost, verdict);
                }
            }
        }
    }
}
