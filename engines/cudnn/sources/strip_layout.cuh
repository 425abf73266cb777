// Where everything lies in shared memory for the convolutions that walk down strips. Plain C++, shared with the tests'
// model of wgmma. Needs INPUTS, OUTPUTS, ENLARGES, CONSUMERS, SWIZZLED, READS_E4M3.
//
// A consumer computes 64 neighbouring pixels of a row; pixels are rows of the product. Its columns are the outputs of
// BLOCKS neighbouring rows of output, all of which one row of input contributes to: the row above, its own, the row below.
//
// SWIZZLED: a pixel's 64 channels (128 of e4m3) are 128 bytes in a row, their 16-byte parts exchanged as TMA and wgmma do
// (bits 4 to 6 of an address ^ its bits 7 to 9); entering such rows at any pixel is only another start address. Otherwise
// a plane of 16 bytes a pixel for each 8 (16) channels. Cells, planes and operands are the same bytes for both types.
// Source: PTX ISA 8.7, "Shared memory matrix layout", "Matrix descriptor format", "Swizzling modes".
#pragma once
#include "platform.cuh"

enum {
    CELL_BYTES = 16,     // of one pixel, or of one output of one tap of the weights
    CELL_CHANNELS = READS_E4M3 ? 16 : 8,
    WEIGHT_STRIDE = 8,   // cells between groups of 8 rows of an operand without swizzle
};

// Matrix descriptor; addresses and distances in cells. No base offset.
DEVICE unsigned long long descriptor(unsigned int cell, unsigned int leading, unsigned int stride) {
    return (unsigned long long)(cell & 0x3FFF) | (unsigned long long)(leading & 0x3FFF) << 16 |
           (unsigned long long)(stride & 0x3FFF) << 32;
}

// Row and column of D of register 4 * block + 2 * half + part. Source: PTX ISA, figure "WGMMA .m64nNk16 register
// fragment layout for accumulator matrix D".
DEVICE int fragment_row(int warp, int lane, int half) { return 16 * warp + lane / 4 + 8 * half; }
DEVICE int fragment_column(int lane, int block, int part) { return 8 * block + 2 * (lane % 4) + part; }

enum {
    PART = 64,                                      // pixels of a consumer
    IS_NARROW = INPUTS == 8,                        // two taps of 8 channels are one product 16 deep
    BLOCKS = ENLARGES ? 4 : 3,                      // rows of output that a row of input gives to
    FINISHED = ENLARGES ? 2 : 1,                    // of these, whole after that row
    COLUMNS = BLOCKS * OUTPUTS,
    PARITIES = ENLARGES ? 2 : 1,                    // an enlarged row's even and odd pixels: a consumer each
    SHIFTS = ENLARGES ? 2 : IS_NARROW ? 4 : 3,      // taps across; for narrow inputs a fourth of zeros
    STRIP_PIXELS = ENLARGES ? PART : PART * CONSUMERS,
    SLOT_PIXELS = STRIP_PIXELS + (IS_NARROW ? 8 : 2),
    SLOT_PLANES = IS_NARROW ? 1 : 8,
    ALL_PLANES = INPUTS / CELL_CHANNELS,
    CHUNKS = (ALL_PLANES + SLOT_PLANES - 1) / SLOT_PLANES,
    SLOT_LOADED = SLOT_PIXELS * SLOT_PLANES * CELL_BYTES,
    SLOT_BYTES = (SLOT_LOADED + 1023) / 1024 * 1024,
    WEIGHT_BYTES = PARITIES * SHIFTS * ALL_PLANES * COLUMNS * CELL_BYTES,
    SUMS = OUTPUTS / 2,                             // of a thread, for one row of output
};

// Planes of a cell's channels that a chunk has.
DEVICE int planes_of(int chunk) {
    const int left = ALL_PLANES - chunk * SLOT_PLANES;
    return left < SLOT_PLANES ? left : SLOT_PLANES;
}

// Byte of a cell of a pixel, in a slot that begins at a multiple of 1024.
DEVICE int slot_byte(int plane, int pixel) {
    if (SWIZZLED) return pixel * 128 + (plane ^ (pixel & 7)) * CELL_BYTES;
    return (plane * SLOT_PIXELS + pixel) * CELL_BYTES;
}

// First pixel of a consumer in a slot.
DEVICE int first_pixel(int consumer) { return ENLARGES ? consumer : consumer * PART; }

// The operand of 64 pixels from a pixel on, two planes deep, from a slot at a byte of shared memory.
DEVICE unsigned long long pixel_operand(unsigned int slot, int pixel, int pair) {
    if (SWIZZLED)
        return descriptor((slot + pixel * 128 + pair * 32) / CELL_BYTES, 1, 1024 / CELL_BYTES) | 1ull << 62;
    if (IS_NARROW) return descriptor(slot / CELL_BYTES + pixel, 1, WEIGHT_STRIDE);
    return descriptor(slot / CELL_BYTES + 2 * pair * SLOT_PIXELS + pixel, SLOT_PIXELS, WEIGHT_STRIDE);
}

// First cell of the weights of a chunk, and cell of a plane of one column of one tap in it.
DEVICE int chunk_cell(int chunk) { return chunk * SLOT_PLANES * PARITIES * SHIFTS * COLUMNS; }
DEVICE int strip_weight_cell(int chunk, int parity, int shift, int plane, int column) {
    return chunk_cell(chunk) + ((parity * SHIFTS + shift) * planes_of(chunk) + plane) * COLUMNS + column;
}
