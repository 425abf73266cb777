// Enlarged tiles onto the float canvas, as pipeline.cpu.blend.TileBlender.add puts them there one after the other.
//
// A thread makes GROUP columns of one row of all planes: what each tile of this launch does to them, in order, and then
// writes them once. It reads the canvas only where a tile fades into one of an earlier launch.
//
// Given when compiling: TILE (type), GROUP (columns of a thread), GROUPS_X (threads of a block side by side).
#include <arguments.cuh>

#define ROWS_Y (THREADS / GROUPS_X)

// The tile's share of a pixel; `row` and `column` count from where the tile begins to write. See TileBlender.
DEVICE float share(const BlendSpan& tile, int row, int column) {
    const float* lead = (const float*)tile.column_lead;
    const bool is_led = column < tile.column_lead_count;
    if (row >= tile.row_lead_count) return is_led ? lead[column] : 1.0f;
    const float weight = ((const float*)tile.row_lead)[row];
    const int from_trail = column - (tile.column_stop - tile.column_start - tile.column_trail_count);
    if (from_trail >= 0) {
        const float next = ((const float*)tile.column_trail)[from_trail];
        return weight * (1.0f - next) / (1.0f - weight * next);
    }
    return is_led ? weight * lead[column] : weight;
}

// The group of a tile that stands alone there. One branch for all planes: their loads must not wait for each other.
DEVICE void take(const TILE* from, long long plane_items, float (&values)[3][GROUP]) {
    TILE items[3][GROUP];
    if (is_aligned<TILE, GROUP>(from) && plane_items % GROUP == 0) {
        UNROLL
        for (int plane = 0; plane < 3; ++plane) load_aligned(from + plane * plane_items, items[plane]);
    } else {
        UNROLL
        for (int plane = 0; plane < 3; ++plane)
            UNROLL
            for (int j = 0; j < GROUP; ++j) items[plane][j] = from[plane * plane_items + j];
    }
    UNROLL
    for (int plane = 0; plane < 3; ++plane)
        UNROLL
        for (int j = 0; j < GROUP; ++j) values[plane][j] = widened(items[plane][j]);
}

// The group of a tile that fades into what is there, or whose outer columns are other tiles'.
DEVICE void mix(const BlendSpan& tile, const TILE* from, long long plane_items, int x, int y,
                float (&values)[3][GROUP]) {
    const int row = y - tile.row_start;
    UNROLL
    for (int j = 0; j < GROUP; ++j) {
        const int column = x + j - tile.column_start;
        if (column < 0 || x + j >= tile.column_stop) continue;
        const float weight = share(tile, row, column);
        // Where the tile stands alone the canvas may never have been written, and hold NaN.
        const bool is_mixed = row < tile.row_lead_count || column < tile.column_lead_count;
        UNROLL
        for (int plane = 0; plane < 3; ++plane) {
            const float value = widened(from[plane * plane_items + j]), held = values[plane][j];
            values[plane][j] = is_mixed ? held + (value - held) * weight : value;
        }
    }
}

KERNEL(blend, BlendArguments) {
    EACH_THREAD {
        // Groups begin at multiples of their size on the canvas, whose rows are aligned and padded to whole groups.
        const int x = a.left + (BLOCK_X * GROUPS_X + thread % GROUPS_X) * GROUP;
        const int y = a.top + BLOCK_Y * ROWS_Y + thread / GROUPS_X;
        float* to = (float*)a.canvas + y * a.canvas_pitch + x;
        float values[3][GROUP];
        bool is_held = false;
        for (int index = 0; index < a.count; ++index) {
            const BlendSpan& tile = a.tiles[index];
            if (y < tile.row_start || y >= tile.row_stop || x + GROUP <= tile.column_start || x >= tile.column_stop)
                continue;
            const TILE* from = (const TILE*)a.tile + index * 3 * a.tile_plane +
                               (y - tile.row_origin) * a.tile_pitch + (x - tile.column_origin);
            const bool is_alone =
                y >= tile.row_start + tile.row_lead_count && x >= tile.column_start + tile.column_lead_count;
            if (is_alone && x + GROUP <= tile.column_stop) {
                take(from, a.tile_plane, values);
            } else {
                UNROLL
                for (int plane = 0; plane < 3; ++plane)
                    if (!is_held) load_aligned(to + plane * a.canvas_plane, values[plane]);
                mix(tile, from, a.tile_plane, x, y, values);
            }
            is_held = true;
        }
        if (is_held) {
            UNROLL
            for (int plane = 0; plane < 3; ++plane) store(to + plane * a.canvas_plane, GROUP, values[plane]);
        }
    }
}
