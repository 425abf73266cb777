// Integer planes to tiles of R'G'B', reflected where they reach past the frame: what pipeline.cpu.from_codes
// and pipeline.cpu.cut do together, in the same order of sums.
//
// A thread makes GROUP columns of two rows, which share most of the chroma samples that they are made of. Groups that
// reach past the frame, or past the tile, are made pixel by pixel.
//
// Given when compiling: SOURCE and TILE (types), INTERLEAVED, HALVED_ROWS, HALVED_COLUMNS, IS_RGB, COSITED_ROWS,
// COSITED_COLUMNS (0 or 1: whether even rows and columns of luma lie on those of chroma), SEEN (what the network sees of
// it, see seen.cuh), GROUP (a multiple of 4), GROUPS_X (threads of a block side by side).
#include <arguments.cuh>
#include <seen.cuh>

#define ROWS_Y (THREADS / GROUPS_X)
#define PAIRS (GROUP / 4 + 2)  // of chroma columns that a group reaches to: one pair before it, one behind

struct Chroma {
    float blue, red;
};

// The chroma rows that one luma row is made of.
struct ChromaRows {
    const SOURCE *blue[4], *red[4];
    float taps[4];
};

DEVICE float value_of(SOURCE sample, int shift) { return float(int(sample) >> shift); }

DEVICE void put(const CutArguments& a, float value, TILE& to) { convert(shown(value, a.seen), to); }

DEVICE int reflected(int index, int length) {
    if (index < length) return index;
    if (length == 1) return 0;
    const int period = 2 * (length - 1);
    index %= period;
    return least(index, period - index);
}

DEVICE ChromaRows chroma_rows(const CutArguments& a, int y) {
    ChromaRows rows;
    const int phase = y & 1;
    UNROLL
    for (int tap = 0; tap < (HALVED_ROWS ? 4 : 1); ++tap) {
        const int row = HALVED_ROWS ? clamped((y >> 1) + a.first_row[phase] + tap, a.chroma_rows) : y;
        rows.blue[tap] = row_of<const SOURCE>(a.blue, a.blue_pitch, row);
        rows.red[tap] = INTERLEAVED ? rows.blue[tap] + 1 : row_of<const SOURCE>(a.red, a.red_pitch, row);
        rows.taps[tap] = HALVED_ROWS ? a.row_taps[4 * phase + tap] : 1.0f;
    }
    return rows;
}

DEVICE Chroma chroma_at(const CutArguments& a, const ChromaRows& rows, int column) {
    const int index = clamped(column, a.chroma_columns) * (INTERLEAVED ? 2 : 1);
    const float centre = a.matrix[2];
    Chroma sum = {0.0f, 0.0f};
    UNROLL
    for (int tap = 0; tap < (HALVED_ROWS ? 4 : 1); ++tap) {
        sum.blue += rows.taps[tap] * (value_of(rows.blue[tap][index], a.shift) - centre);
        sum.red += rows.taps[tap] * (value_of(rows.red[tap][index], a.shift) - centre);
    }
    return sum;
}

DEVICE Chroma chroma_of_one(const CutArguments& a, const ChromaRows& rows, int x) {
    if (!HALVED_COLUMNS) return chroma_at(a, rows, x);
    Chroma sum = {0.0f, 0.0f};
    for (int tap = 0; tap < 5; ++tap) {
        const Chroma column = chroma_at(a, rows, (x >> 1) - 2 + tap);
        sum.blue += a.column_taps[5 * (x & 1) + tap] * column.blue;
        sum.red += a.column_taps[5 * (x & 1) + tap] * column.red;
    }
    return sum;
}

// Both chroma samples of two neighbouring columns, around 0. Columns outside the plane repeat its edge.
//
// With IS_ALIGNED the pair is a pack and lies wholly inside the plane or wholly outside. There is no branch then, so
// that no load waits for another: a pair outside is read from the edge, and the sample at the edge taken twice.
template <bool IS_ALIGNED>
DEVICE void chroma_pair(const CutArguments& a, const SOURCE* blue, const SOURCE* red, int column, Chroma (&out)[2]) {
    SOURCE codes[4];
    if (IS_ALIGNED) {
        const int inside = column < 0 ? 0 : least(column, a.chroma_columns - 2);
        if (INTERLEAVED) {
            load_aligned(blue + 2 * inside, codes);
        } else {
            SOURCE blues[2], reds[2];
            load_aligned(blue + inside, blues);
            load_aligned(red + inside, reds);
            codes[0] = blues[0], codes[1] = reds[0], codes[2] = blues[1], codes[3] = reds[1];
        }
        if (column < 0) codes[2] = codes[0], codes[3] = codes[1];
        if (column >= a.chroma_columns) codes[0] = codes[2], codes[1] = codes[3];
    } else {
        UNROLL
        for (int j = 0; j < 2; ++j) {
            const int index = clamped(column + j, a.chroma_columns) * (INTERLEAVED ? 2 : 1);
            codes[2 * j] = blue[index];
            codes[2 * j + 1] = red[index];
        }
    }
    UNROLL
    for (int j = 0; j < 2; ++j) {
        out[j].blue = value_of(codes[2 * j], a.shift) - a.matrix[2];
        out[j].red = value_of(codes[2 * j + 1], a.shift) - a.matrix[2];
    }
}

// Chroma of rows y and y + 1, y even, at luma's height: all chroma columns that the group at x is made of.
template <bool IS_ALIGNED>
DEVICE void chroma_columns_of_two(const CutArguments& a, int x, int y, Chroma (&out)[2][2 * PAIRS]) {
    UNROLL
    for (int i = 0; i < 2 * PAIRS; ++i) out[0][i] = out[1][i] = {0.0f, 0.0f};
    // Even rows are made of four from two above on, odd ones of four from one above on; see ``up_filters``.
    UNROLL
    for (int window = COSITED_ROWS ? 1 : 0; window < (HALVED_ROWS ? 5 : 2); ++window) {
        const int row = HALVED_ROWS ? clamped((y >> 1) - 2 + window, a.chroma_rows) : y + window;
        const SOURCE* blue = row_of<const SOURCE>(a.blue, a.blue_pitch, row);
        const SOURCE* red = INTERLEAVED ? blue + 1 : row_of<const SOURCE>(a.red, a.red_pitch, row);
        UNROLL
        for (int pair = 0; pair < PAIRS; ++pair) {
            Chroma two[2];
            chroma_pair<IS_ALIGNED>(a, blue, red, (x >> 1) - 2 + 2 * pair, two);
            UNROLL
            for (int j = 0; j < 2; ++j) {
                Chroma& even = out[0][2 * pair + j];
                Chroma& odd = out[1][2 * pair + j];
                if (!HALVED_ROWS) {
                    (window == 0 ? even : odd) = two[j];
                    continue;
                }
                if (COSITED_ROWS ? window == 2 : window < 4) {
                    const float weight = COSITED_ROWS ? 1.0f : a.row_taps[window];
                    even.blue += weight * two[j].blue;
                    even.red += weight * two[j].red;
                }
                if (window >= 1) {
                    odd.blue += a.row_taps[3 + window] * two[j].blue;
                    odd.red += a.row_taps[3 + window] * two[j].red;
                }
            }
        }
    }
}

// Chroma of column x + j of a group at x, which is even.
DEVICE Chroma chroma_of_column(const CutArguments& a, const Chroma (&columns)[2 * PAIRS], int j) {
    if (COSITED_COLUMNS && j % 2 == 0) return columns[j / 2 + 2];
    Chroma sum = {0.0f, 0.0f};
    UNROLL
    for (int tap = j % 2; tap < 4 + j % 2; ++tap) {
        const float weight = a.column_taps[5 * (j % 2) + tap];
        sum.blue += weight * columns[j / 2 + tap].blue;
        sum.red += weight * columns[j / 2 + tap].red;
    }
    return sum;
}

// A whole group of rows y and y + 1, y even, x even, all of it inside the frame and the tile.
template <bool IS_ALIGNED>
DEVICE void make_two_rows(const CutArguments& a, TILE* tile, int tx, int ty, int x, int y) {
    SOURCE codes[2][GROUP];
    UNROLL
    for (int row = 0; row < 2; ++row) {
        const SOURCE* from = row_of<const SOURCE>(a.luma, a.luma_pitch, y + row) + x;
        if (IS_ALIGNED)
            load_aligned(from, codes[row]);
        else
            load(from, GROUP, codes[row]);
    }
    Chroma columns[2][2 * PAIRS];
    chroma_columns_of_two<IS_ALIGNED>(a, x, y, columns);
    UNROLL
    for (int row = 0; row < 2; ++row) {
        TILE items[3][GROUP];
        UNROLL
        for (int j = 0; j < GROUP; ++j) {
            const float grey = (value_of(codes[row][j], a.shift) - a.matrix[0]) * a.matrix[1];
            const Chroma chroma = chroma_of_column(a, columns[row], j);
            put(a, grey + a.matrix[3] * chroma.red, items[0][j]);
            put(a, grey + a.matrix[4] * chroma.blue + a.matrix[5] * chroma.red, items[1][j]);
            put(a, grey + a.matrix[6] * chroma.blue, items[2][j]);
        }
        TILE* to = tile + (long long)(ty + row) * a.tile_width + tx;
        UNROLL
        for (int plane = 0; plane < 3; ++plane)
            store(to + (long long)plane * a.tile_height * a.tile_width, GROUP, items[plane]);
    }
}

DEVICE float scaled_code(const CutArguments& a, Address plane, long long pitch, int x, int y) {
    return (value_of(row_of<const SOURCE>(plane, pitch, y)[x], a.shift) - a.matrix[0]) * a.matrix[1];
}

// Up to GROUP columns of one row, each by itself.
DEVICE void make_one_row(const CutArguments& a, TILE* tile, int tx, int ty, int left, int y) {
    const ChromaRows rows = chroma_rows(a, y);
    const long long plane = (long long)a.tile_height * a.tile_width;
    TILE* to = tile + (long long)ty * a.tile_width + tx;
    for (int j = 0; j < GROUP && tx + j < a.tile_width; ++j) {
        const int x = reflected(left + tx + j, a.width);
        const float grey = scaled_code(a, a.luma, a.luma_pitch, x, y);
        if (IS_RGB) {
            put(a, grey, to[j]);
            put(a, scaled_code(a, a.blue, a.blue_pitch, x, y), to[plane + j]);
            put(a, scaled_code(a, a.red, a.red_pitch, x, y), to[2 * plane + j]);
            continue;
        }
        const Chroma chroma = chroma_of_one(a, rows, x);
        put(a, grey + a.matrix[3] * chroma.red, to[j]);
        put(a, grey + a.matrix[4] * chroma.blue + a.matrix[5] * chroma.red, to[plane + j]);
        put(a, grey + a.matrix[6] * chroma.blue, to[2 * plane + j]);
    }
}

// Whole groups of one row where every plane has a sample for each pixel.
DEVICE void make_full_row(const CutArguments& a, TILE* tile, int tx, int ty, int x, int y) {
    SOURCE first[GROUP], second[GROUP], third[GROUP];
    load(row_of<const SOURCE>(a.luma, a.luma_pitch, y) + x, GROUP, first);
    load(row_of<const SOURCE>(a.blue, a.blue_pitch, y) + x, GROUP, second);
    load(row_of<const SOURCE>(a.red, a.red_pitch, y) + x, GROUP, third);
    TILE items[3][GROUP];
    UNROLL
    for (int j = 0; j < GROUP; ++j) {
        const float grey = (value_of(first[j], a.shift) - a.matrix[0]) * a.matrix[1];
        if (IS_RGB) {
            put(a, grey, items[0][j]);
            put(a, (value_of(second[j], a.shift) - a.matrix[0]) * a.matrix[1], items[1][j]);
            put(a, (value_of(third[j], a.shift) - a.matrix[0]) * a.matrix[1], items[2][j]);
            continue;
        }
        const float blue = value_of(second[j], a.shift) - a.matrix[2];
        const float red = value_of(third[j], a.shift) - a.matrix[2];
        put(a, grey + a.matrix[3] * red, items[0][j]);
        put(a, grey + a.matrix[4] * blue + a.matrix[5] * red, items[1][j]);
        put(a, grey + a.matrix[6] * blue, items[2][j]);
    }
    TILE* to = tile + (long long)ty * a.tile_width + tx;
    UNROLL
    for (int plane = 0; plane < 3; ++plane)
        store(to + (long long)plane * a.tile_height * a.tile_width, GROUP, items[plane]);
}

KERNEL(cut, CutArguments) {
    EACH_THREAD {
        const int top = a.tops[BLOCK_Z], left = a.lefts[BLOCK_Z];
        TILE* tile = (TILE*)a.tile + (long long)BLOCK_Z * 3 * a.tile_height * a.tile_width;
        const int tx = (BLOCK_X * GROUPS_X + thread % GROUPS_X) * GROUP;
        // Pairs begin at even rows of the frame.
        const int ty = (BLOCK_Y * ROWS_Y + thread / GROUPS_X) * 2 - (top & 1);
        const int x = left + tx;
        const int y = top + ty;
        if (tx < a.tile_width && ty < a.tile_height) {
            const bool is_whole = tx + GROUP <= a.tile_width && x + GROUP <= a.width;
            const bool has_both = ty >= 0 && ty + 1 < a.tile_height && y + 1 < a.height;
            if (HALVED_COLUMNS && is_whole && has_both && x % 2 == 0) {
                if (a.is_aligned && x % GROUP == 0 && a.chroma_columns % 2 == 0)
                    make_two_rows<true>(a, tile, tx, ty, x, y);
                else
                    make_two_rows<false>(a, tile, tx, ty, x, y);
            } else {
                for (int row = ty < 0 ? 1 : 0; row < 2 && ty + row < a.tile_height; ++row) {
                    const int source_y = reflected(y + row, a.height);
                    if (!HALVED_COLUMNS && is_whole)
                        make_full_row(a, tile, tx, ty + row, x, source_y);
                    else
                        make_one_row(a, tile, tx, ty + row, left, source_y);
                }
            }
        }
    }
}
