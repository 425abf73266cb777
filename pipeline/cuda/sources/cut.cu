// Integer planes to one tile of R'G'B', reflected where the tile reaches past the frame: what pipeline.cpu.from_codes
// and pipeline.cpu.cut do together, in the same order of sums.
//
// Given when compiling: SOURCE and TILE (types), INTERLEAVED, HALVED_ROWS, HALVED_COLUMNS, IS_RGB (0 or 1).
#include <arguments.cuh>

#define GROUPS_X 32  // four columns each
#define ROWS_Y (THREADS / GROUPS_X)

struct Chroma {
    float blue, red;
};

// The chroma rows that one luma row is made of.
struct ChromaRows {
    const SOURCE *blue[4], *red[4];
    float taps[4];
};

DEVICE float value_of(SOURCE sample, int shift) { return float(int(sample) >> shift); }

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

// Chroma of four columns from x on, which is odd or even for all threads alike.
template <int PARITY>
DEVICE void chroma_of_four(const CutArguments& a, const ChromaRows& rows, int x, Chroma (&out)[4]) {
    Chroma columns[6 + PARITY];
    UNROLL
    for (int i = 0; i < 6 + PARITY; ++i) columns[i] = chroma_at(a, rows, (x >> 1) - 2 + i);
    UNROLL
    for (int j = 0; j < 4; ++j) {
        Chroma sum = {0.0f, 0.0f};
        UNROLL
        for (int tap = 0; tap < 5; ++tap) {
            const float weight = a.column_taps[5 * ((PARITY + j) & 1) + tap];
            sum.blue += weight * columns[(PARITY + j) / 2 + tap].blue;
            sum.red += weight * columns[(PARITY + j) / 2 + tap].red;
        }
        out[j] = sum;
    }
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

DEVICE void store(const CutArguments& a, int tx, int ty, int plane, const float (&values)[4]) {
    TILE items[4];
    UNROLL
    for (int j = 0; j < 4; ++j) convert(values[j], items[j]);
    const long long at = ((long long)plane * a.tile_height + ty) * a.tile_width + tx;
    store_four((TILE*)a.tile + at, a.tile_width - tx, items);
}

DEVICE void load_codes(const CutArguments& a, const SOURCE* row, int x, int tx, float (&out)[4]) {
    SOURCE codes[4] = {};
    if (x + 4 <= a.width) {
        load_four(row + x, 4, codes);
    } else {
        for (int j = 0; j < least(4, a.tile_width - tx); ++j) codes[j] = row[reflected(x + j, a.width)];
    }
    UNROLL
    for (int j = 0; j < 4; ++j) out[j] = value_of(codes[j], a.shift);
}

KERNEL(cut, CutArguments) {
    EACH_THREAD {
        const int tx = (BLOCK_X * GROUPS_X + thread % GROUPS_X) * 4;
        const int ty = BLOCK_Y * ROWS_Y + thread / GROUPS_X;
        if (tx < a.tile_width && ty < a.tile_height) {
            const int x = a.left + tx;
            const int y = reflected(a.top + ty, a.height);
            float values[4], grey[4];
            load_codes(a, row_of<const SOURCE>(a.luma, a.luma_pitch, y), x, tx, grey);
            UNROLL
            for (int j = 0; j < 4; ++j) grey[j] = (grey[j] - a.matrix[0]) * a.matrix[1];
            if (IS_RGB) {
                store(a, tx, ty, 0, grey);
                load_codes(a, row_of<const SOURCE>(a.blue, a.blue_pitch, y), x, tx, values);
                UNROLL
                for (int j = 0; j < 4; ++j) values[j] = (values[j] - a.matrix[0]) * a.matrix[1];
                store(a, tx, ty, 1, values);
                load_codes(a, row_of<const SOURCE>(a.red, a.red_pitch, y), x, tx, values);
                UNROLL
                for (int j = 0; j < 4; ++j) values[j] = (values[j] - a.matrix[0]) * a.matrix[1];
                store(a, tx, ty, 2, values);
            } else {
                Chroma chroma[4];
                const ChromaRows rows = chroma_rows(a, y);
                if (HALVED_COLUMNS && x + 4 <= a.width) {
                    if (x & 1)
                        chroma_of_four<1>(a, rows, x, chroma);
                    else
                        chroma_of_four<0>(a, rows, x, chroma);
                } else {
                    UNROLL
                    for (int j = 0; j < 4; ++j) chroma[j] = chroma_of_one(a, rows, reflected(x + j, a.width));
                }
                UNROLL
                for (int j = 0; j < 4; ++j) values[j] = grey[j] + a.matrix[3] * chroma[j].red;
                store(a, tx, ty, 0, values);
                UNROLL
                for (int j = 0; j < 4; ++j)
                    values[j] = grey[j] + a.matrix[4] * chroma[j].blue + a.matrix[5] * chroma[j].red;
                store(a, tx, ty, 1, values);
                UNROLL
                for (int j = 0; j < 4; ++j) values[j] = grey[j] + a.matrix[6] * chroma[j].blue;
                store(a, tx, ty, 2, values);
            }
        }
    }
}
