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

// Each step reads the input rows that no step before did, and adds them to the sums of all output rows that they are part
// of: those of this step, and the first SHRINK_AHEAD of the next, which a thread keeps until then.
#define SHRINK_LINES (SHRINK * ROWS)
#define SHRINK_OVERLAP (SHRINK_TAPS - SHRINK)  // input rows that an output row shares with the one before
#define SHRINK_AHEAD ((SHRINK_OVERLAP + SHRINK - 1) / SHRINK)
static_assert(SHRINK_OVERLAP <= SHRINK_LINES, "one step must read all that the next one's first row needs");
typedef float Ahead[SHRINK_AHEAD][4];

// A quad of ROWS rows of one plane. Each input row is read and decoded once.
// Columns and rows outside the picture are mirrored: IS_PACKED where that makes a quad of a quad, if read backwards;
// IS_INSIDE where no row is outside.
template <bool IS_PACKED, bool IS_INSIDE>
DEVICE void shrink_rows(const FinishArguments& a, const IMAGE* plane, int x, int first, Ahead& ahead,
                        MixedRow (&out)[ROWS], int quad) {
    const bool is_backwards = IS_PACKED && (x < 0 || x >= a.image_width);
    int columns[4];  // from left to right in memory
    UNROLL
    for (int j = 0; j < 4; ++j) columns[j] = mirrored(is_backwards ? x + 3 - j : x + j, a.image_width);
    float sum[ROWS + SHRINK_AHEAD][4];
    UNROLL
    for (int row = 0; row < ROWS + SHRINK_AHEAD; ++row)
        UNROLL
        for (int j = 0; j < 4; ++j) sum[row][j] = row < SHRINK_AHEAD ? ahead[row][j] : 0.0f;
    const IMAGE* from = IS_INSIDE ? plane + first * a.image_pitch : plane;
    UNROLL
    for (int line = 0; line < SHRINK_LINES; ++line) {
        if (!IS_INSIDE) from = plane + mirrored(first + line, a.image_height) * a.image_pitch;
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
        for (int row = 0; row < ROWS + SHRINK_AHEAD; ++row) {
            const int tap = line + SHRINK_OVERLAP - SHRINK * row;
            if (tap < 0 || tap >= SHRINK_TAPS) continue;
            UNROLL
            for (int j = 0; j < 4; ++j) sum[row][j] += a.shrink_taps[tap] * values[j];
        }
    }
    UNROLL
    for (int row = 0; row < ROWS; ++row) {
        Quad& to = out[row].quad(quad);
        UNROLL
        for (int j = 0; j < 4; ++j) to.at[j] = is_backwards ? sum[row][3 - j] : sum[row][j];
    }
    UNROLL
    for (int row = 0; row < SHRINK_AHEAD; ++row)
        UNROLL
        for (int j = 0; j < 4; ++j) ahead[row][j] = sum[ROWS + row][j];
}

// The rows of a step. Of step -1 nothing is right but what it keeps for the next.
DEVICE void shrink(const FinishArguments& a, const Part& part, int step, int thread, Ahead& ahead,
                   MixedRow (&mixed)[3][ROWS]) {
    // Not a loop: the compiler would compute ahead of it whatever an edge may need.
    static_assert(3 * MIXED_QUADS <= THREADS, "a thread makes at most one quad");
    if (thread >= 3 * MIXED_QUADS) return;
    const int left = SHRINK * (part.left - LEFT) - SHRINK_LEFT;
    const int first = SHRINK * (part.first + step * ROWS) - SHRINK_BEFORE + SHRINK_OVERLAP;
    const bool is_inside = first >= 0 && first + SHRINK_LINES <= a.image_height;
    const bool is_packed = a.aligned_items >= 4 && a.image_width % 4 == 0;
    const int quad = thread % MIXED_QUADS, plane = thread / MIXED_QUADS;
    // Farther out there is nothing that is needed, and the mirror image would end.
    const int inside = least(left + 4 * quad, 2 * a.image_width - 4);
    const int x = inside < -a.image_width ? -a.image_width : inside;
    const IMAGE* from = (const IMAGE*)a.image + plane * a.image_plane;
    if (is_packed && is_inside)
        shrink_rows<true, true>(a, from, x, first, ahead, mixed[plane], quad);
    else if (is_packed)
        shrink_rows<true, false>(a, from, x, first, ahead, mixed[plane], quad);
    else
        shrink_rows<false, false>(a, from, x, first, ahead, mixed[plane], quad);
}

// A group of pixels of one row. Those outside the picture come out as its mirror image.
DEVICE void shrink_columns(const FinishArguments& a, MixedRow (&mixed)[3][ROWS], int row, int group, Loaded& out) {
    UNROLL
    for (int plane = 0; plane < 3; ++plane) {
        float values[4 * GROUP_QUADS], sums[4];
        UNROLL
        for (int i = 0; i < GROUP_QUADS; ++i) {
            const Quad quad = mixed[plane][row].quad(group, i);
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
        out[plane][0] = four_of(sums[0], sums[1], sums[2], sums[3]);
    }
}
