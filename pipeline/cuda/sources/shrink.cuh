// A change of size by a whole number on both axes, for finish.cu, which says what THREADS, ROWS, READ_WIDTH, LEFT,
// IMAGE, SHRINK, SHRINK_TAPS and Part are. Beyond the edge the picture is mirrored, edge pixel repeated; light
// is resampled if a curve is given. As pipeline.cpu.separable does it, but all outputs have the same weights: no table.
#pragma once

static_assert(PIXELS == 4, "a thread makes one group of four columns");

#define SHRINK_BEFORE ((SHRINK_TAPS - SHRINK) / 2)               // input positions before SHRINK * output position
#define SHRINK_LEFT ((SHRINK_BEFORE + 3) / 4 * 4)                // the same, so that quads are aligned
#define SHRINK_OFFSET (SHRINK_LEFT - SHRINK_BEFORE)              // of a group's first input in its first quad
#define MIXED_QUADS ((SHRINK_OFFSET + SHRINK * (READ_WIDTH - 1) + SHRINK_TAPS + 3) / 4)
#define GROUP_QUADS ((SHRINK_OFFSET + 3 * SHRINK + SHRINK_TAPS + 3) / 4)  // that a group of four outputs is made of

typedef Quads<MIXED_QUADS, SHRINK> MixedRow;

// A quad of ROWS rows of one plane, made of SHRINK * (ROWS - 1) + SHRINK_TAPS input rows; each read and decoded once.
// Columns and rows outside the picture are mirrored: IS_PACKED where that makes a quad of a quad, if read backwards;
// IS_INSIDE where no row is outside.
template <bool IS_PACKED, bool IS_INSIDE>
DEVICE void shrink_rows(const FinishArguments& a, const IMAGE* plane, int x, int y, MixedRow (&out)[ROWS], int quad) {
    const int above = SHRINK * y - SHRINK_BEFORE;
    const bool is_backwards = IS_PACKED && (x < 0 || x >= a.image_width);
    int columns[4];  // from left to right in memory
    UNROLL
    for (int j = 0; j < 4; ++j) columns[j] = mirrored(is_backwards ? x + 3 - j : x + j, a.image_width);
    float sum[ROWS][4];
    UNROLL
    for (int row = 0; row < ROWS; ++row)
        UNROLL
        for (int j = 0; j < 4; ++j) sum[row][j] = 0.0f;
    const IMAGE* from = IS_INSIDE ? plane + above * a.image_pitch : plane;
    UNROLL
    for (int line = 0; line < SHRINK * (ROWS - 1) + SHRINK_TAPS; ++line) {
        if (!IS_INSIDE) from = plane + mirrored(above + line, a.image_height) * a.image_pitch;
        float values[4];
        if (IS_PACKED) {
            widen(four_at(from + columns[0]), values);
        } else {
            UNROLL
            for (int j = 0; j < 4; ++j) values[j] = widened(from[columns[j]]);
        }
        if (IS_INSIDE) from += a.image_pitch;
        UNROLL
        for (int j = 0; j < 4; ++j) values[j] = decoded(values[j], a.curve);
        UNROLL
        for (int row = 0; row < ROWS; ++row) {
            const int tap = line - SHRINK * row;
            if (tap < 0 || tap >= SHRINK_TAPS) continue;
            UNROLL
            for (int j = 0; j < 4; ++j) sum[row][j] += a.shrink_taps[tap] * values[j];
        }
    }
    UNROLL
    for (int row = 0; row < ROWS; ++row) {
        Pack<float, 4>& to = out[row].quad(quad);
        UNROLL
        for (int j = 0; j < 4; ++j) to.at[j] = is_backwards ? sum[row][3 - j] : sum[row][j];
    }
}

DEVICE void shrink(const FinishArguments& a, const Part& part, int step, int thread, MixedRow (&mixed)[3][ROWS]) {
    const int y = part.first + step * ROWS;
    const int left = SHRINK * (part.left - LEFT) - SHRINK_LEFT;
    const int above = SHRINK * y - SHRINK_BEFORE;
    const bool is_inside = above >= 0 && above + SHRINK * (ROWS - 1) + SHRINK_TAPS <= a.image_height;
    const bool is_packed = a.aligned_items >= 4 && a.image_width % 4 == 0;
    // Not a loop: the compiler would compute ahead of it whatever an edge may need.
    static_assert(3 * MIXED_QUADS <= THREADS, "a thread makes at most one quad");
    if (thread >= 3 * MIXED_QUADS) return;
    const int quad = thread % MIXED_QUADS, plane = thread / MIXED_QUADS;
    // Farther out there is nothing that is needed, and the mirror image would end.
    const int inside = least(left + 4 * quad, 2 * a.image_width - 4);
    const int x = inside < -a.image_width ? -a.image_width : inside;
    const IMAGE* from = (const IMAGE*)a.image + plane * a.image_plane;
    if (is_packed && is_inside)
        shrink_rows<true, true>(a, from, x, y, mixed[plane], quad);
    else if (is_packed)
        shrink_rows<true, false>(a, from, x, y, mixed[plane], quad);
    else
        shrink_rows<false, false>(a, from, x, y, mixed[plane], quad);
}

// A group of pixels of one row.
DEVICE void shrink_columns(const FinishArguments& a, MixedRow (&mixed)[3][ROWS], int row, int group, int x,
                           Loaded& out) {
    UNROLL
    for (int plane = 0; plane < 3; ++plane) {
        MixedRow& from = mixed[plane][row];
        float sums[4];
        if (x >= 0 && x + 4 <= a.width) {
            float values[4 * GROUP_QUADS];
            UNROLL
            for (int i = 0; i < GROUP_QUADS; ++i) {
                const Quad quad = from.quad(group, i);
                UNROLL
                for (int j = 0; j < 4; ++j) values[4 * i + j] = quad.at[j];
            }
            UNROLL
            for (int j = 0; j < 4; ++j) {
                float sum = 0.0f;
                UNROLL
                for (int tap = 0; tap < SHRINK_TAPS; ++tap)
                    sum += a.shrink_taps[tap] * values[SHRINK_OFFSET + SHRINK * j + tap];
                sums[j] = encoded(sum, a.curve);
            }
        } else {
            UNROLL
            for (int j = 0; j < 4; ++j) {
                const int first = SHRINK_OFFSET + SHRINK * (4 * group + clamped(x + j, a.width) - x);
                float sum = 0.0f;
                NOT_UNROLLED
                for (int tap = 0; tap < SHRINK_TAPS; ++tap) sum += a.shrink_taps[tap] * from.item(first + tap);
                sums[j] = encoded(sum, a.curve);
            }
        }
        out[plane][0] = four_of(sums[0], sums[1], sums[2], sums[3]);
    }
}
