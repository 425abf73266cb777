// Where everything lies in shared memory and in registers, for both Hopper convolutions. Plain C++: the tests compile
// this file for the processor and run a tile with a model of wgmma over it.
//
// A cell is 16 bytes: 8 channels of one pixel, or of one output of one tap of the weights. Pixels of a tile with its halo
// lie in planes, one for each 8 channels; so the pixels that a tap reads are the same cells some cells later, and every
// tap is only another start address. That is wgmma's canonical layout without swizzle: 8 neighbouring cells are a core
// matrix; groups of 8 rows are STRIDE apart, the two halves of 16 channels LEADING apart.
// Source: PTX ISA 8.7, "Shared memory matrix layout" and "Matrix descriptor format".
#pragma once
#include "platform.cuh"

enum {
    TILE_WIDTH = 8,
    TILE_HEIGHT = 32,
    TILE_PIXELS = TILE_WIDTH * TILE_HEIGHT,
    HALO_WIDTH = TILE_WIDTH + 2,
    HALO_HEIGHT = TILE_HEIGHT + 2,
    HALO_PIXELS = HALO_WIDTH * HALO_HEIGHT,
    PLANE_CELLS = HALO_PIXELS + 1,  // odd, so that the 8 planes of one pixel begin in 8 different groups of 4 banks
    TAPS = 9,
    CELL_BYTES = 16,
};

// Cell of 8 channels of a pixel of the halo, in a stage.
DEVICE int pixel_cell(int plane, int pixel) { return plane * PLANE_CELLS + pixel; }

// First cell of what a tap reads, for outputs that begin at a row of the tile, from a pair of planes.
DEVICE int operand_cell(int pair, int tap, int row) {
    return pixel_cell(2 * pair, (row + tap / 3) * HALO_WIDTH + tap % 3);
}
enum { OPERAND_LEADING = PLANE_CELLS, OPERAND_STRIDE = HALO_WIDTH };

// How far the next tap lies behind a tap, where both together make 16 inputs; the last has none, and reads itself.
DEVICE int next_tap_leading(int tap) {
    return tap + 1 < TAPS ? operand_cell(0, tap + 1, 0) - operand_cell(0, tap, 0) : 0;
}

// Cell of 8 channels of one output of one tap.
DEVICE int weight_cell(int outputs, int planes, int tap, int plane, int output) {
    return (tap * planes + plane) * outputs + output;
}
enum { WEIGHT_STRIDE = 8 };  // and leading: as many cells as there are outputs

// The strip that a block of conv32 walks down, one row and 32 channels of it at a time. The halo is 2 more than a multiple
// of 8, so that 4 planes of 2 pixels, which 8 threads write at once, lie in different banks.
enum { STRIP_PART = 64, STRIP = 2 * STRIP_PART, STRIP_HALO = STRIP + 2, STRIP_PLANES = 4 };
DEVICE int strip_cell(int plane, int pixel) { return plane * STRIP_HALO + pixel; }

// Matrix descriptor; addresses and distances in cells. No swizzle, no base offset.
DEVICE unsigned long long descriptor(unsigned int cell, unsigned int leading, unsigned int stride) {
    return (unsigned long long)(cell & 0x3FFF) | (unsigned long long)(leading & 0x3FFF) << 16 |
           (unsigned long long)(stride & 0x3FFF) << 32;
}

// Row and column of D of register 4 * block + 2 * half + part. Source: PTX ISA, figure "WGMMA .m64nNk16 register
// fragment layout for accumulator matrix D".
DEVICE int fragment_row(int warp, int lane, int half) { return 16 * warp + lane / 4 + 8 * half; }
DEVICE int fragment_column(int lane, int block, int part) { return 8 * block + 2 * (lane % 4) + part; }

// The epilogue of 64 outputs transposes 64 pixels at a time through shared memory. A row is one pixel: 64 halves, and
// 16 bytes so that 8 pixels lie in different banks.
enum { STAGED_PIXELS = 64, STAGED_ROW_BYTES = 64 * 2 + 16, STAGED_BYTES = STAGED_PIXELS * STAGED_ROW_BYTES };

// Where a lane's address for stmatrix.x4 points: matrices (block, half 0), (block, half 1), (block + 1, half 0), ...
DEVICE int staged_byte(int warp, int lane, int block) {
    const int pixel = 8 * (block + lane / 16) + lane % 8, output = 16 * warp + 8 * (lane / 8 % 2);
    return pixel * STAGED_ROW_BYTES + output * 2;
}
