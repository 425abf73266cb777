// What the kernels are called with. pipeline/cuda/arguments.py says the same, field by field, in the same order.
#pragma once
#include <memory.cuh>

struct CutArguments {
    Address luma, blue, red;  // interleaved chroma: both in `blue`; RGB: red, green, blue
    Address tile;             // (tiles of this launch, 3, tile_height, tile_width), written
    long long luma_pitch, blue_pitch, red_pitch;  // bytes
    int height, width, chroma_rows, chroma_columns;
    int tile_height, tile_width;
    int tops[16], lefts[16];  // of each tile of this launch
    int shift;              // bits that samples stand above bit 0
    int is_aligned;         // whether every row begins where a whole group can be loaded at once
    int first_row[2];       // per phase: first of four chroma rows, relative to the luma row's half
    float row_taps[8];      // per phase: four weights
    float column_taps[10];  // per phase: five weights, of the columns from two before the luma column's half on
    float matrix[7];        // as pipeline.cpu.from_codes.ycbcr_to_rgb has it; RGB: offset and scale alone
    float seen[11];         // SeenCurve.constants
};

// Where one tile goes.
struct BlendSpan {
    Address row_lead, column_lead, column_trail;  // float weights
    int row_origin, row_start, row_stop, column_origin, column_start, column_stop;
    int row_lead_count, column_lead_count, column_trail_count;
    int reserved;  // makes the size a multiple of 8
};

struct BlendArguments {
    Address tile;    // (count, 3, tile height, tile width), read
    Address canvas;  // float, written
    long long tile_pitch, tile_plane, canvas_pitch, canvas_plane;  // items
    int top, left;  // of the first block; `left` a multiple of GROUP
    int count;      // of tiles of this launch
    int reserved;
    BlendSpan tiles[16];
};

struct RowArguments {
    Address image;           // read
    Address out;             // float, written: (3, out_height, width)
    Address first, weights;  // int (out_height), float (out_height, taps)
    long long image_pitch, image_plane, out_pitch, out_plane;  // items
    int width, out_height, taps;
    float curve[6];
};

struct FinishArguments {
    Address image;             // read
    Address luma, blue, red;   // written
    Address first, weights;    // int (width), float (taps, width): columns that are resampled
    Address biases;            // float (2, 8, 8): what luma and chroma codes begin with, threshold of rounding included
    long long image_pitch, image_plane;           // items
    long long luma_pitch, blue_pitch, red_pitch;  // bytes
    int height, width, chroma_rows, chroma_columns;
    int image_height, image_width;  // the same, or what it shrinks from
    int segment;  // rows of a block; even
    int aligned_items;  // how many items of the image one access may load, wherever a row's index is a multiple of that
    int taps;
    int shift;
    float shrink_taps[24];
    float curve[6];
    float row_taps[12], column_taps[12];
    float matrix[3];  // shares of R', G', B' in luma
    // All that follows, and `biases`, in units of the first power of two above the highest code.
    float scales[3];  // codes per luma, per B' - luma, per R' - luma; RGB: per R', G', B'
    float top;        // half a code above the highest
    float one;        // a float's steps at this number are codes
    float seen[11];   // SeenCurve.constants
};
