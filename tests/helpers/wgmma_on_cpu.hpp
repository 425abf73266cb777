// wgmma on a processor: shared memory as cells of floats in place of float16 or e4m3, operands by their descriptors as
// the PTX ISA defines them, registers by their fragment layout.
#pragma once
#include <vector>

#include "strip_layout.cuh"

namespace {

struct Memory {
    std::vector<float> values;
    explicit Memory(int cells) : values(cells * CELL_CHANNELS, 1e30f) {}
    float& at(long cell, int channel) { return values.at(cell * CELL_CHANNELS + channel); }
};

struct Operand {
    long start, leading, stride;
    bool is_swizzled;
    explicit Operand(unsigned long long bits)
        : start(bits & 0x3FFF), leading(bits >> 16 & 0x3FFF), stride(bits >> 32 & 0x3FFF), is_swizzled(bits >> 62 == 1) {}
    // K-major. Without swizzle rows are in groups of 8 cells, k in two halves of a cell's numbers; with one of 128 bytes
    // rows are 8 cells long, and the lower three bits of a cell's number are exchanged by the next three.
    float value(Memory& memory, int row, int k) const {
        const int half = k / CELL_CHANNELS, channel = k % CELL_CHANNELS;
        if (!is_swizzled) return memory.at(start + row / 8 * stride + half * leading + row % 8, channel);
        const long cell = start + row / 8 * stride + row % 8 * 8 + half;
        return memory.at(cell ^ (cell >> 3 & 7), channel);
    }
};

using Registers = std::vector<std::vector<float>>;  // [thread of the warpgroup][register]

void multiply(Registers& d, Memory& memory, unsigned long long a_bits, unsigned long long b_bits) {
    const Operand a(a_bits), b(b_bits);
    for (int thread = 0; thread < 128; ++thread)
        for (int at = 0; at < int(d[thread].size()); ++at) {
            const int row = fragment_row(thread / 32, thread % 32, at / 2 % 2);
            const int column = fragment_column(thread % 32, at / 4, at % 2);
            for (int k = 0; k < 2 * CELL_CHANNELS; ++k) d[thread][at] += a.value(memory, row, k) * b.value(memory, column, k);
        }
}

}  // namespace
