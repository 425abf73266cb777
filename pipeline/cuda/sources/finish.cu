// R'G'B' to integer planes, as pipeline.cpu.to_codes does it, after a change of size if there is one.
//
// A block makes OWN_WIDTH luma columns of `segment` rows with their chroma, ROWS rows at a time, from the top down.
// What a step makes of them goes from stage to stage through shared memory, each stage one step behind the one before,
// so that one wait a step is enough and the loads of one step hide behind the sums of others:
//
//   shrink     (SHRINK) rows of the picture, a weighted sum of input rows each           -> mixed
//   load       R'G'B' of the pixels: from the picture, or weighted sums of `mixed`; luma is written here -> wide
//   narrow     chroma at half the columns, 12 of `wide` each                             -> ring
//   lower      chroma at half the rows, 12 of `ring` each; chroma is written here
//
// Chroma reaches 5 samples before and 6 behind; rows and columns outside the picture repeat its edge.
//
// Given when compiling: IMAGE (type of the input), TARGET (type of a sample), RESAMPLED (columns by a table, after the
// kernel `rows`), SHRINK (0, or by which whole number both axes shrink) and SHRINK_TAPS, CURVE, INTERLEAVED,
// HALVED_ROWS, HALVED_COLUMNS, IS_RGB, DITHERED, SEEN (what the picture is, see seen.cuh), READ_WIDTH (columns that a block reads), ROWS, BLOCKS (that a
// multiprocessor should hold at once).
#include <curves.cuh>
#include <arguments.cuh>
#include <quads.cuh>
#include <seen.cuh>

#define TAPS 12
#define BEFORE 5
#define BEHIND 6
#define LEFT (HALVED_COLUMNS ? 8 : 0)  // at least 5, and a multiple of 4, so that groups of four stay aligned
#define OWN_WIDTH (READ_WIDTH - 2 * LEFT)
#define GROUPS (READ_WIDTH / 4)
#define CHROMA_WIDTH (OWN_WIDTH / 2)  // where chroma has half the columns
#define CHROMA_GROUPS (CHROMA_WIDTH / 4)
// Rows of chroma at luma's height that are kept: a step's chroma rows reach over at most ROWS + 11, and the next step
// writes meanwhile.
#define RING (2 * ROWS + 12)
#define STAGES (SHRINK != 0 ? 4 : 3)

#if HALVED_COLUMNS
typedef Quads<GROUPS, 2> WideRow;
#else
typedef Quads<1, 1> WideRow;  // unused
#endif
#if SHRINK || RESAMPLED
typedef Four<float> Loaded;
#else
typedef Four<IMAGE> Loaded;
#endif

#define RING_PITCH (HALVED_COLUMNS ? CHROMA_WIDTH : 4)
typedef float Ring[2][RING][RING_PITCH];

// What a block makes.
struct Part {
    int left;         // first luma column
    int start, stop;  // luma rows
    int first, last;  // rows that chroma needs
    int steps;
};

DEVICE Part part_of(const FinishArguments& a, int block_x, int block_y) {
    Part part;
    part.left = block_x * OWN_WIDTH;
    part.start = block_y * a.segment;
    part.stop = least(part.start + a.segment, a.height);
    part.first = HALVED_ROWS && part.start > BEFORE ? part.start - BEFORE : (HALVED_ROWS ? 0 : part.start);
    part.last = HALVED_ROWS ? least(part.stop + BEHIND, a.height) : part.stop;
    part.steps = (part.last - part.first + ROWS - 1) / ROWS;
    return part;
}

#if SHRINK
#include <shrink.cuh>
#endif

DEVICE float threshold_at(const FinishArguments& a, int x, int y) {
    return DITHERED ? ((const float*)a.thresholds)[(y & 7) * 8 + (x & 7)] : 0.5f;
}

DEVICE TARGET code_of(const FinishArguments& a, float value, float threshold) {
    float code = value + threshold;
    const float top = a.highest + 0.5f;
    code = code > 0.0f ? code : 0.0f;  // also what NaN becomes
    code = code < top ? code : top;
    return TARGET(int(code) << a.shift);
}

#if RESAMPLED
// Four columns of one row, of what `rows` made of the picture.
DEVICE void load_four(const FinishArguments& a, int x, int y, Loaded (&out)[3]) {
    int columns[4], first[4];
    float sums[3][4] = {};
    UNROLL
    for (int j = 0; j < 4; ++j) {
        columns[j] = clamped(x + j, a.width);
        first[j] = ((const int*)a.first)[columns[j]];
    }
    const IMAGE* row = (const IMAGE*)a.image + y * a.image_pitch;
    for (int tap = 0; tap < a.taps; ++tap) {
        const float* weights = (const float*)a.weights + (long long)tap * a.width;
        UNROLL
        for (int j = 0; j < 4; ++j) {
            const float weight = weights[columns[j]];
            UNROLL
            for (int plane = 0; plane < 3; ++plane)
                sums[plane][j] += weight * widened(row[plane * a.image_plane + first[j] + tap]);
        }
    }
    UNROLL
    for (int plane = 0; plane < 3; ++plane) {
        UNROLL
        for (int j = 0; j < 4; ++j) sums[plane][j] = encoded(sums[plane][j], a.curve);
        out[plane] = four_of(sums[plane][0], sums[plane][1], sums[plane][2], sums[plane][3]);
    }
}
#elif !SHRINK
// Four columns of one row. One branch for all three planes: their loads must not wait for each other.
DEVICE void load_four(const FinishArguments& a, int x, int y, Loaded (&out)[3]) {
    const IMAGE* row = (const IMAGE*)a.image + y * a.image_pitch;
    if (a.is_aligned && x >= 0 && x + 4 <= a.width) {
        UNROLL
        for (int plane = 0; plane < 3; ++plane) out[plane] = four_at(row + plane * a.image_plane + x);
        return;
    }
    UNROLL
    for (int plane = 0; plane < 3; ++plane) {
        const IMAGE* from = row + plane * a.image_plane;
        out[plane] = four_of(from[clamped(x, a.width)], from[clamped(x + 1, a.width)], from[clamped(x + 2, a.width)],
                             from[clamped(x + 3, a.width)]);
    }
}
#endif

// Four columns from x, a multiple of four, on.
DEVICE void store_row(const FinishArguments& a, Address plane, long long pitch, int x, int y, const float (&codes)[4]) {
    float thresholds[4] = {0.5f, 0.5f, 0.5f, 0.5f};
    if (DITHERED) load_aligned((const float*)a.thresholds + (y & 7) * 8 + (x & 7), thresholds);
    TARGET out[4];
    UNROLL
    for (int j = 0; j < 4; ++j) out[j] = code_of(a, codes[j], thresholds[j]);
    store(row_of<TARGET>(plane, pitch, y) + x, a.width - x, out);
}

// Four pixels: their luma written if they are the block's own; their chroma, in codes without its offset, kept or,
// where it has luma's columns and rows, written as well.
DEVICE void convert_four(const FinishArguments& a, const Part& part, int group, int row, int y,
                         const Loaded (&rgb)[3], WideRow (&wide)[2][ROWS]) {
    const int x = part.left - LEFT + 4 * group;
    float reds[4], greens[4], blues[4], luma[4], first[4], second[4];
    widen(rgb[0], reds), widen(rgb[1], greens), widen(rgb[2], blues);
    UNROLL
    for (int j = 0; j < 4; ++j) {
        const float red = restored(reds[j], a.seen), green = restored(greens[j], a.seen);
        const float blue = restored(blues[j], a.seen);
        const float grey = IS_RGB ? red : a.matrix[0] * red + a.matrix[1] * green + a.matrix[2] * blue;
        luma[j] = grey * a.matrix[3] + a.matrix[4];
        first[j] = IS_RGB ? green * a.matrix[3] : (blue - grey) * a.matrix[5];
        second[j] = IS_RGB ? blue * a.matrix[3] : (red - grey) * a.matrix[6];
    }
    const bool is_own = x >= part.left && x < part.left + OWN_WIDTH && x < a.width && y >= part.start && y < part.stop;
    if (is_own) store_row(a, a.luma, a.luma_pitch, x, y, luma);
    if (HALVED_COLUMNS) {
        Pack<float, 4>&to_first = wide[0][row].quad(group), &to_second = wide[1][row].quad(group);
        UNROLL
        for (int j = 0; j < 4; ++j) to_first.at[j] = first[j], to_second.at[j] = second[j];
    } else if (is_own) {
        UNROLL
        for (int j = 0; j < 4; ++j) first[j] += a.matrix[7], second[j] += a.matrix[7];
        store_row(a, a.blue, a.blue_pitch, x, y, first);
        store_row(a, a.red, a.red_pitch, x, y, second);
    }
}

// Chroma at half the columns, of a step's rows. Rows behind the picture are made, but nothing reads them.
DEVICE void narrow(const FinishArguments& a, const Part& part, int step, int thread, WideRow (&wide)[2][ROWS],
                   Ring& ring) {
    for (int item = thread; item < 2 * ROWS * CHROMA_GROUPS; item += THREADS) {
        const int group = item % CHROMA_GROUPS;
        const int row = item / CHROMA_GROUPS % ROWS;
        const int plane = item / (CHROMA_GROUPS * ROWS);
        // Chroma column 4 * group is made of luma columns from LEFT + 8 * group - BEFORE on, counted as `wide` does.
        float values[24];
        UNROLL
        for (int i = 0; i < 6; ++i) {
            const Pack<float, 4> quad = wide[plane][row].quad(group, i);
            UNROLL
            for (int j = 0; j < 4; ++j) values[4 * i + j] = quad.at[j];
        }
        Pack<float, 4> out;
        UNROLL
        for (int j = 0; j < 4; ++j) {
            float sum = 0.0f;
            UNROLL
            for (int tap = 0; tap < TAPS; ++tap) sum += a.column_taps[tap] * values[LEFT - BEFORE + 2 * j + tap];
            out.at[j] = sum;
        }
        *(Pack<float, 4>*)&ring[plane][(step * ROWS + row) % RING][4 * group] = out;
    }
}

// Chroma rows of the block that are whole once the rows of `steps` steps are.
DEVICE int rows_done(const FinishArguments& a, const Part& part, int steps) {
    const int end = HALVED_ROWS ? (part.stop + 1) / 2 : part.stop;
    if (steps <= 0) return HALVED_ROWS ? part.start / 2 : part.start;
    const int made = part.first + steps * ROWS;
    if (made >= part.last) return end;
    if (!HALVED_ROWS) return made;
    const int done = (made - BEHIND + 1) / 2;  // the last one needs row 2 * done - 2 + BEHIND
    return least(done > part.start / 2 ? done : part.start / 2, end);
}

// Two rows of one column of chroma, from the ring, where they share most of what they are made of.
DEVICE void lower_two(const FinishArguments& a, const Part& part, int y, int column, const Ring& ring,
                      float (&sums)[2][2]) {
    const int slot = ((HALVED_ROWS ? 2 * y - BEFORE : y) - part.first) % RING;
    const int before_wrap = RING - slot;
    const float* first = &ring[0][slot][column];
    const float* wrapped = first - RING * RING_PITCH;
    UNROLL
    for (int line = 0; line < (HALVED_ROWS ? TAPS + 2 : 2); ++line) {
        const float* from = (line < before_wrap ? first : wrapped) + line * RING_PITCH;
        const float blue = from[0], red = from[RING * RING_PITCH];
        UNROLL
        for (int row = 0; row < 2; ++row) {
            const int tap = line - (HALVED_ROWS ? 2 : 1) * row;
            if (tap < 0 || tap >= (HALVED_ROWS ? TAPS : 1)) continue;
            sums[row][0] += (HALVED_ROWS ? a.row_taps[tap] : 1.0f) * blue;
            sums[row][1] += (HALVED_ROWS ? a.row_taps[tap] : 1.0f) * red;
        }
    }
}

// The same where some of that lies outside the picture. Rare, so it is to be short rather than fast.
DEVICE void lower_two_at_edge(const FinishArguments& a, const Part& part, int y, int column, const Ring& ring,
                              float (&sums)[2][2]) {
    NOT_UNROLLED
    for (int tap = 0; tap < TAPS; ++tap) {
        UNROLL
        for (int row = 0; row < 2; ++row) {
            const int slot = (clamped(2 * (y + row) - BEFORE + tap, part.last) - part.first) % RING;
            sums[row][0] += a.row_taps[tap] * ring[0][slot][column];
            sums[row][1] += a.row_taps[tap] * ring[1][slot][column];
        }
    }
}

// The chroma rows that a step made whole, two at a time.
DEVICE void lower(const FinishArguments& a, const Part& part, int step, int thread, const Ring& ring) {
    const int stop = rows_done(a, part, step + 1);
    for (int y = rows_done(a, part, step); y < stop; y += 2) {
        const bool is_inside = !HALVED_ROWS || (2 * y >= BEFORE && 2 * y - BEFORE + TAPS + 2 <= a.height);
        for (int column = thread; column < CHROMA_WIDTH; column += THREADS) {
            const int x = part.left / 2 + column;
            if (x >= a.chroma_columns) continue;
            float sums[2][2] = {{0.0f, 0.0f}, {0.0f, 0.0f}};  // of each row: blue, red
            if (is_inside)
                lower_two(a, part, y, column, ring, sums);
            else
                lower_two_at_edge(a, part, y, column, ring, sums);
            UNROLL
            for (int row = 0; row < 2; ++row) {
                if (y + row >= stop) continue;
                const float threshold = threshold_at(a, x, y + row);
                const TARGET codes[2] = {code_of(a, sums[row][0] + a.matrix[7], threshold),
                                         code_of(a, sums[row][1] + a.matrix[7], threshold)};
                TARGET* blue = row_of<TARGET>(a.blue, a.blue_pitch, y + row);
                if (INTERLEAVED) {
                    store(blue + 2 * x, 2, codes);
                } else {
                    blue[x] = codes[0];
                    row_of<TARGET>(a.red, a.red_pitch, y + row)[x] = codes[1];
                }
            }
        }
    }
}

KERNEL_OF(finish, FinishArguments, BLOCKS) {
#if SHRINK
    SHARED MixedRow mixed[2][3][ROWS];
#endif
    SHARED WideRow wide[2][2][ROWS];
    SHARED Pack<float, 4> ring_space[sizeof(Ring) / sizeof(Pack<float, 4>)];
    Ring& ring = *(Ring*)ring_space;
    const Part part = part_of(a, BLOCK_X, BLOCK_Y);
    const int behind = SHRINK != 0 ? 1 : 0;  // steps that `load` is behind the first stage

    for (int step = 0; step < part.steps + (HALVED_COLUMNS ? STAGES - 1 : behind); ++step) {
        EACH_THREAD {
            const int loaded = step - behind;
            // The last threads: where the first have more to do in `shrink`, they have less.
            const int loader = thread - (THREADS - GROUPS * ROWS);
            const int row = loader >= 0 ? loader / GROUPS : 0, group = loader >= 0 ? loader % GROUPS : 0;
            const int y = part.first + loaded * ROWS + row;
            const int x = part.left - LEFT + group * 4;
            const bool is_loading = loaded >= 0 && loaded < part.steps && loader >= 0;
            Loaded rgb[3];
#if SHRINK
            if (step < part.steps) shrink(a, part, step, thread, mixed[step & 1]);
            if (is_loading) {
                MixedRow(&rows)[3][ROWS] = mixed[loaded & 1];
                UNROLL
                for (int plane = 0; plane < 3; ++plane) {
                    float values[4];
                    shrink_columns(a, rows[plane][row], group, x, values);
                    rgb[plane] = four_of(values[0], values[1], values[2], values[3]);
                }
            }
#else
            if (is_loading) load_four(a, x, clamped(y, a.height), rgb);
#endif
            if (HALVED_COLUMNS) {
                const int narrowed = loaded - 1, lowered = loaded - 2;
                if (lowered >= 0 && lowered < part.steps) lower(a, part, lowered, thread, ring);
                if (narrowed >= 0 && narrowed < part.steps)
                    narrow(a, part, narrowed, thread, wide[narrowed & 1], ring);
            }
            if (is_loading)
                convert_four(a, part, group, row, y, rgb, wide[loaded & 1]);
        }
        SYNCHRONIZE;
    }
}
