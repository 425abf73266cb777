// One enlarged tile onto the float canvas, as pipeline.cpu.blend.TileBlender.add puts it there.
//
// Given when compiling: TILE (type).
#include <arguments.cuh>

#define GROUPS_X 32  // four columns each
#define ROWS_Y (THREADS / GROUPS_X)

// The tile's share of a pixel; `row` and `column` count from where the tile begins to write. See TileBlender.
DEVICE float share(const BlendArguments& a, int row, int column) {
    const float* lead = (const float*)a.column_lead;
    const bool is_led = column < a.column_lead_count;
    if (row >= a.row_lead_count) return is_led ? lead[column] : 1.0f;
    const float weight = ((const float*)a.row_lead)[row];
    const int from_trail = column - (a.column_stop - a.column_start - a.column_trail_count);
    if (from_trail >= 0) {
        const float next = ((const float*)a.column_trail)[from_trail];
        return weight * (1.0f - next) / (1.0f - weight * next);
    }
    return is_led ? weight * lead[column] : weight;
}

KERNEL(blend, BlendArguments) {
    EACH_THREAD {
        // Groups of four begin at multiples of four of the canvas, whose rows are aligned.
        const int x = (a.column_start & ~3) + (BLOCK_X * GROUPS_X + thread % GROUPS_X) * 4;
        const int y = a.row_start + BLOCK_Y * ROWS_Y + thread / GROUPS_X;
        if (x < a.column_stop && y < a.row_stop) {
            const int row = y - a.row_start;
            const bool is_alone = row >= a.row_lead_count && x >= a.column_start + a.column_lead_count;
            const bool is_whole = x >= a.column_start && x + 4 <= a.column_stop;
            for (int plane = 0; plane < 3; ++plane) {
                const TILE* from = (const TILE*)a.tile + plane * a.tile_plane +
                                   (y - a.row_origin) * a.tile_pitch + (x - a.column_origin);
                float* to = (float*)a.canvas + plane * a.canvas_plane + y * a.canvas_pitch + x;
                if (is_alone && is_whole) {
                    TILE items[4];
                    float values[4];
                    load_four(from, 4, items);
                    UNROLL
                    for (int j = 0; j < 4; ++j) values[j] = widened(items[j]);
                    store_four(to, 4, values);
                } else {
                    for (int j = 0; j < 4; ++j) {
                        const int column = x + j - a.column_start;
                        if (column >= 0 && x + j < a.column_stop) {
                            const float value = widened(from[j]);
                            const float weight = share(a, row, column);
                            // Where the tile stands alone the canvas may never have been written, and hold NaN.
                            const bool is_mixed = row < a.row_lead_count || column < a.column_lead_count;
                            to[j] = is_mixed ? to[j] + (value - to[j]) * weight : value;
                        }
                    }
                }
            }
        }
    }
}
