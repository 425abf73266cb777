// R'G'B' to integer planes, as pipeline.cpu.to_codes does it, after a change of size if there is one.
//
// A block makes OWN_WIDTH luma columns of `segment` rows with their chroma, ROWS rows at a time, from the top down. What
// a step makes of them goes from stage to stage through shared memory:
//
//   shrink     (SHRINK) rows of the picture, a weighted sum of input rows each           -> mixed
//   load       R'G'B' of the pixels: from the picture, or weighted sums of `mixed`
//   convert    luma, which is written, and chroma                                        -> wide
//   narrow     chroma at half the columns, sums of `wide`; by the warp that made these   -> ring
//   lower      chroma at half the rows, sums of `ring`; chroma is written here, one step behind the other stages
//
// Loads of a step are on their way while `lower` computes. Chroma reaches 5 samples before and 6 behind; rows and columns
// outside the picture repeat its edge.
//
// Given when compiling: IMAGE (type of the input), TARGET (type of a sample), RESAMPLED (columns by a table, after the
// kernel `rows`), SHRINK (0, or by which whole number both axes shrink) and SHRINK_TAPS, CURVE, INTERLEAVED,
// HALVED_ROWS, HALVED_COLUMNS, ROW_TAPS and COLUMN_TAPS (bit i: whether weight i of 12 counts), IS_RGB, SEEN (what
// the picture is, see seen.cuh), READ_WIDTH (columns that a block reads), PIXELS (that a thread makes, side by side: 4 or
// 8), ROWS, BLOCKS (that a multiprocessor should hold at once).
#include <curves.cuh>
#include <arguments.cuh>
#include <quads.cuh>
#include <seen.cuh>

#define TAPS 12
#define BEFORE 5
#define BEHIND 6
#define LEFT (HALVED_COLUMNS ? 8 : 0)  // at least 5, and a multiple of 8, so that groups stay aligned
#define OWN_WIDTH (READ_WIDTH - 2 * LEFT)
#define QUADS (PIXELS / 4)
#define GROUPS (READ_WIDTH / PIXELS)  // of pixels in a row; one or more rows to a warp
#define CHROMA_WIDTH (OWN_WIDTH / 2)  // where chroma has half the columns
#define CHROMA_COUNT (PIXELS / 2)     // columns of chroma that a thread narrows
#define CHROMA_GROUPS (OWN_WIDTH / PIXELS)
#define NARROW_QUADS ((LEFT - BEFORE + 2 * (CHROMA_COUNT - 1) + TAPS + 3) / 4)  // that they are made of
// A row of the ring holds both planes of chroma: one after the other, or interleaved as they will be in memory.
#define RING_QUADS (2 * CHROMA_WIDTH / 4)
// Rows of chroma at luma's height that are kept: what a step lowers reaches over at most ROWS + 11 of them, and where no
// wait is in between, `narrow` writes ROWS more meanwhile.
#define RING ((SHRINK ? 1 : 2) * ROWS + 12)

static_assert(32 % GROUPS == 0 && GROUPS * ROWS <= THREADS, "a row of pixels must be made by one warp");

typedef Pack<float, 4> Quad;
typedef Quads<READ_WIDTH / 4, QUADS> WideRow;
typedef Quad Ring[RING][RING_QUADS];
typedef Quad Biases[2][16];  // of luma and chroma: 8 rows of 8 columns

#if SHRINK || RESAMPLED
typedef Four<float> Loaded[3][QUADS];
#else
typedef Four<IMAGE> Loaded[3][QUADS];
#endif

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

// A thread's group of pixels in a step; rows from ROWS on are not made.
struct Place {
    int row, group;
};

DEVICE Place place_of(unsigned int thread) { return {int(thread / GROUPS), int(thread % GROUPS)}; }

#if SHRINK
#include <shrink.cuh>
#endif

// The code of a value is in the lowest bits of the result; what is above them is not zero. NaN becomes code 0.
DEVICE unsigned int code_of(const FinishArguments& a, float value, float scale, float bias) {
    return truncated(fminf(saturated_sum(value, scale, bias), a.top), a.one);
}

// Codes of N neighbours, of which `count` are picture.
template <int N>
DEVICE void store_codes(const FinishArguments& a, TARGET* to, int count, const unsigned int (&codes)[N]) {
    constexpr int kItems = 4 / sizeof(TARGET);
    unsigned int words[N / kItems];
    UNROLL
    for (int i = 0; i < N / kItems; ++i) {
        words[i] = 0;
        UNROLL
        for (int j = 0; j < kItems; ++j) words[i] |= (unsigned int)TARGET(codes[i * kItems + j]) << (32 / kItems * j);
        words[i] <<= sizeof(TARGET) == 1 ? 0 : a.shift;  // no code reaches into its neighbour
    }
    if (count >= N && is_aligned<TARGET, N>(to)) {
        store_words(to, words);
        return;
    }
    UNROLL
    for (int j = 0; j < N; ++j)
        if (j < count) to[j] = TARGET(words[j / kItems] >> (32 / kItems * (j % kItems)));
}

#if RESAMPLED
// Four columns of one row, of what `rows` made of the picture.
DEVICE void load_four(const FinishArguments& a, int x, int y, int quad, Loaded& out) {
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
        out[plane][quad] = four_of(sums[plane][0], sums[plane][1], sums[plane][2], sums[plane][3]);
    }
}

DEVICE void load(const FinishArguments& a, int x, int y, Loaded& out) {
    UNROLL
    for (int quad = 0; quad < QUADS; ++quad) load_four(a, x + 4 * quad, y, quad, out);
}
#elif !SHRINK
// One branch for all three planes: their loads must not wait for each other. Where all groups of a row are whole, those
// outside the picture are some group of it: `repeat_edge` makes them right.
DEVICE void load(const FinishArguments& a, int x, int y, Loaded& out) {
    const IMAGE* row = (const IMAGE*)a.image + y * a.image_pitch;
    if (a.aligned_items >= PIXELS && a.width % PIXELS == 0) {
        const int at = x < 0 ? 0 : least(x, a.width - PIXELS);
        UNROLL
        for (int plane = 0; plane < 3; ++plane) fours_at(row + plane * a.image_plane + at, out[plane]);
        return;
    }
    if (a.aligned_items >= 4 && x >= 0 && x + PIXELS <= a.width) {
        UNROLL
        for (int plane = 0; plane < 3; ++plane) {
            UNROLL
            for (int quad = 0; quad < QUADS; ++quad)
                out[plane][quad] = four_at(row + plane * a.image_plane + x + 4 * quad);
        }
        return;
    }
    UNROLL
    for (int plane = 0; plane < 3; ++plane) {
        const IMAGE* from = row + plane * a.image_plane;
        UNROLL
        for (int quad = 0; quad < QUADS; ++quad) {
            const int at = x + 4 * quad;
            out[plane][quad] = four_of(from[clamped(at, a.width)], from[clamped(at + 1, a.width)],
                                       from[clamped(at + 2, a.width)], from[clamped(at + 3, a.width)]);
        }
    }
}
#endif

// Codes of one plane with luma's columns, from x on, a multiple of PIXELS.
DEVICE void store_row(const FinishArguments& a, Address plane, long long pitch, int x, int y,
                      const float (&values)[PIXELS], float scale, const Quad (&biases)[16]) {
    unsigned int codes[PIXELS];
    UNROLL
    for (int quad = 0; quad < QUADS; ++quad) {
        const Quad bias = biases[(y & 7) * 2 + ((x / 4 + quad) & 1)];
        UNROLL
        for (int j = 0; j < 4; ++j) codes[4 * quad + j] = code_of(a, values[4 * quad + j], scale, bias.at[j]);
    }
    store_codes(a, row_of<TARGET>(plane, pitch, y) + x, a.width - x, codes);
}

// Neighbouring pixels: their luma written if they are the block's own; their chroma, not yet in codes, kept or, where it
// has luma's columns, written as well.
DEVICE void convert(const FinishArguments& a, const Part& part, int group, int y, const Loaded& rgb,
                    const Biases& biases, WideRow (&wide)[2]) {
    const int x = part.left - LEFT + PIXELS * group;
    float luma[PIXELS], first[PIXELS], second[PIXELS];
    UNROLL
    for (int quad = 0; quad < QUADS; ++quad) {
        float reds[4], greens[4], blues[4];
        widen(rgb[0][quad], reds), widen(rgb[1][quad], greens), widen(rgb[2][quad], blues);
        UNROLL
        for (int j = 0; j < 4; ++j) {
            const float red = restored(reds[j], a.seen), green = restored(greens[j], a.seen);
            const float blue = restored(blues[j], a.seen);
            const float grey = IS_RGB ? red : a.matrix[0] * red + a.matrix[1] * green + a.matrix[2] * blue;
            luma[4 * quad + j] = grey;
            first[4 * quad + j] = IS_RGB ? green : blue - grey;
            second[4 * quad + j] = IS_RGB ? blue : red - grey;
        }
    }
    if (HALVED_COLUMNS) {
        UNROLL
        for (int quad = 0; quad < QUADS; ++quad) {
            Quad &to_first = wide[0].quad(group, quad), &to_second = wide[1].quad(group, quad);
            UNROLL
            for (int j = 0; j < 4; ++j) to_first.at[j] = first[4 * quad + j], to_second.at[j] = second[4 * quad + j];
        }
    }
    const bool is_own = x >= part.left && x < part.left + OWN_WIDTH && x < a.width && y >= part.start && y < part.stop;
    if (!is_own) return;
    store_row(a, a.luma, a.luma_pitch, x, y, luma, a.scales[0], biases[0]);
    if (!HALVED_COLUMNS) {
        store_row(a, a.blue, a.blue_pitch, x, y, first, a.scales[1], biases[1]);
        store_row(a, a.red, a.red_pitch, x, y, second, a.scales[2], biases[1]);
    }
}

#if HALVED_COLUMNS
// The edge's chroma for columns outside the picture.
DEVICE void repeat_edge(const FinishArguments& a, const Part& part, int group, WideRow (&wide)[2]) {
    const int left = part.left - LEFT;
    UNROLL
    for (int j = 0; j < PIXELS; ++j) {
        const int index = PIXELS * group + j, inside = clamped(left + index, a.width) - left;
        if (index == inside) continue;
        UNROLL
        for (int plane = 0; plane < 2; ++plane) wide[plane].item(index) = wide[plane].item(inside);
    }
}

// Chroma at half the columns, of one row. Rows behind the picture are made, but nothing reads them.
DEVICE void narrow(const FinishArguments& a, int group, WideRow (&wide)[2], Quad (&ring)[RING_QUADS]) {
    float sums[2][CHROMA_COUNT];
    UNROLL
    for (int plane = 0; plane < 2; ++plane) {
        // The first is made of luma columns from LEFT + PIXELS * group - BEFORE on, counted as `wide` does.
        float values[4 * NARROW_QUADS];
        UNROLL
        for (int i = 0; i < NARROW_QUADS; ++i) {
            const Quad quad = wide[plane].quad(group, i);
            UNROLL
            for (int j = 0; j < 4; ++j) values[4 * i + j] = quad.at[j];
        }
        UNROLL
        for (int j = 0; j < CHROMA_COUNT; ++j) {
            float sum = 0.0f;
            UNROLL
            for (int tap = 0; tap < TAPS; ++tap)
                if (COLUMN_TAPS >> tap & 1) sum += a.column_taps[tap] * values[LEFT - BEFORE + 2 * j + tap];
            sums[plane][j] = sum;
        }
    }
    float* to = ring[0].at;
    if (INTERLEAVED) {
        UNROLL
        for (int i = 0; i < QUADS; ++i)
            *(Quad*)(to + PIXELS * group + 4 * i) = {sums[0][2 * i], sums[1][2 * i], sums[0][2 * i + 1],
                                                     sums[1][2 * i + 1]};
    } else {
        UNROLL
        for (int plane = 0; plane < 2; ++plane) {
            Pack<float, CHROMA_COUNT> pack;
            UNROLL
            for (int j = 0; j < CHROMA_COUNT; ++j) pack.at[j] = sums[plane][j];
            *(Pack<float, CHROMA_COUNT>*)(to + plane * CHROMA_WIDTH + CHROMA_COUNT * group) = pack;
        }
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

// Two rows of one quad of the ring, where they share most of what they are made of.
DEVICE void lower_two(const FinishArguments& a, const Part& part, int y, int quad, const Ring& ring,
                      float (&sums)[2][4]) {
    const int slot = ((HALVED_ROWS ? 2 * y - BEFORE : y) - part.first) % RING;
    const int before_wrap = RING - slot;
    const Quad* first = &ring[slot][quad];
    const Quad* wrapped = first - RING * RING_QUADS;
    UNROLL
    for (int line = 0; line < (HALVED_ROWS ? TAPS + 2 : 2); ++line) {
        const Quad values = (line < before_wrap ? first : wrapped)[line * RING_QUADS];
        UNROLL
        for (int row = 0; row < 2; ++row) {
            const int tap = line - (HALVED_ROWS ? 2 : 1) * row;
            if (tap < 0 || tap >= (HALVED_ROWS ? TAPS : 1) || (HALVED_ROWS && !(ROW_TAPS >> tap & 1))) continue;
            UNROLL
            for (int j = 0; j < 4; ++j) sums[row][j] += (HALVED_ROWS ? a.row_taps[tap] : 1.0f) * values.at[j];
        }
    }
}

// The same where some of that lies outside the picture. Rare, so it is to be short rather than fast.
DEVICE void lower_two_at_edge(const FinishArguments& a, const Part& part, int y, int quad, const Ring& ring,
                              float (&sums)[2][4]) {
    NOT_UNROLLED
    for (int tap = 0; tap < TAPS; ++tap) {
        UNROLL
        for (int row = 0; row < 2; ++row) {
            const int slot = (clamped(2 * (y + row) - BEFORE + tap, part.last) - part.first) % RING;
            const Quad values = ring[slot][quad];
            UNROLL
            for (int j = 0; j < 4; ++j) sums[row][j] += a.row_taps[tap] * values.at[j];
        }
    }
}

// Codes of one quad of a chroma row.
DEVICE void store_chroma(const FinishArguments& a, const Part& part, int y, int quad, const float (&sums)[4],
                         const Quad (&biases)[16]) {
    constexpr int kPlaneQuads = INTERLEAVED ? RING_QUADS : RING_QUADS / 2;
    const int left = part.left / 2;  // a multiple of 8
    const int plane = quad / kPlaneQuads;
    const int column = left + (INTERLEAVED ? 2 : 4) * (quad % kPlaneQuads);
    const Quad bias = biases[(y & 7) * 2 + (column / 4 & 1)];
    const bool is_second = column & 2;  // half of that quad
    unsigned int codes[4];
    UNROLL
    for (int j = 0; j < 4; ++j) {
        const float scale = a.scales[1 + (INTERLEAVED ? j & 1 : 0)];
        codes[j] = code_of(a, sums[j], INTERLEAVED || plane == 0 ? scale : a.scales[2],
                           INTERLEAVED ? (is_second ? bias.at[2 + j / 2] : bias.at[j / 2]) : bias.at[j]);
    }
    const bool is_red = !INTERLEAVED && plane != 0;
    TARGET* row = row_of<TARGET>(is_red ? a.red : a.blue, is_red ? a.red_pitch : a.blue_pitch, y);
    const int count = a.chroma_columns - column;
    store_codes(a, row + (INTERLEAVED ? 2 : 1) * column, (INTERLEAVED ? 2 : 1) * count, codes);
}

// The chroma rows that a step made whole, two at a time.
DEVICE void lower(const FinishArguments& a, const Part& part, int step, int thread, const Ring& ring,
                  const Biases& biases) {
    const int start = rows_done(a, part, step), stop = rows_done(a, part, step + 1);
    for (int item = thread; item < (stop - start + 1) / 2 * RING_QUADS; item += THREADS) {
        const int y = start + item / RING_QUADS * 2, quad = item % RING_QUADS;
        const bool is_inside = !HALVED_ROWS || (2 * y >= BEFORE && 2 * y - BEFORE + TAPS + 2 <= a.height);
        float sums[2][4] = {{0.0f, 0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f, 0.0f}};
        if (is_inside)
            lower_two(a, part, y, quad, ring, sums);
        else
            lower_two_at_edge(a, part, y, quad, ring, sums);
        store_chroma(a, part, y, quad, sums[0], biases[1]);
        if (y + 1 < stop) store_chroma(a, part, y + 1, quad, sums[1], biases[1]);
    }
}

#endif

KERNEL_OF(finish, FinishArguments, BLOCKS) {
    SHARED Biases biases;
#if SHRINK
    SHARED MixedRow mixed[3][ROWS];
    OWN(Ahead, ahead);
#endif
#if HALVED_COLUMNS
    SHARED WideRow wide[ROWS][2];
    SHARED Ring ring;
#else
    WideRow wide[1][2];  // unused
#endif
    const Part part = part_of(a, BLOCK_X, BLOCK_Y);
#if HALVED_COLUMNS
    const bool is_at_edge = part.left < LEFT || part.left - LEFT + READ_WIDTH > a.width;
#endif
    EACH_THREAD {
        for (int i = thread; i < 32; i += THREADS) biases[i / 16][i % 16] = ((const Quad*)a.biases)[i];
#if SHRINK
        for (int row = 0; row < SHRINK_AHEAD; ++row)
            for (int j = 0; j < 4; ++j) OWN_OF(ahead)[row][j] = 0.0f;
#endif
    }
    SYNCHRONIZE;

    for (int step = SHRINK ? -1 : 0; step < part.steps + (HALVED_COLUMNS ? 1 : 0); ++step) {
        const bool is_making = step >= 0 && step < part.steps;
        EACH_THREAD {
#if SHRINK
            if (step < part.steps) shrink(a, part, step, thread, OWN_OF(ahead), mixed);
#else
            const Place place = place_of(thread);
            const int y = part.first + step * ROWS + place.row;
            Loaded rgb;
            if (is_making && place.row < ROWS)
                load(a, part.left - LEFT + PIXELS * place.group, clamped(y, a.height), rgb);
#endif
#if HALVED_COLUMNS
            // By the last threads: the first have more to do in `shrink`.
            if (step > 0) lower(a, part, step - 1, THREADS - 1 - thread, ring, biases);
#endif
#if SHRINK
        }
        SYNCHRONIZE;
        EACH_THREAD {
            const Place place = place_of(thread);
            const int y = part.first + step * ROWS + place.row;
            Loaded rgb;
            if (is_making && place.row < ROWS) shrink_columns(a, mixed, place.row, place.group, rgb);
#endif
            if (is_making && place.row < ROWS)
                convert(a, part, place.group, y, rgb, biases, wide[HALVED_COLUMNS ? place.row : 0]);
        }
#if HALVED_COLUMNS
        SYNCHRONIZE_WARP;
        if (is_at_edge && is_making) {
            EACH_THREAD {
                const Place place = place_of(thread);
                if (place.row < ROWS) repeat_edge(a, part, place.group, wide[place.row]);
            }
            SYNCHRONIZE_WARP;
        }
        EACH_THREAD {
            const Place place = place_of(thread);
            if (is_making && place.row < ROWS && place.group < CHROMA_GROUPS)
                narrow(a, place.group, wide[place.row], ring[(step * ROWS + place.row) % RING]);
        }
#endif
#if HALVED_COLUMNS || SHRINK
        SYNCHRONIZE;
#endif
    }
}
