// 3x3 convolution of INPUTS (a multiple of 32) -> 32 of NHWC float16, with bias and LeakyReLU: the growth convolutions of
// a dense block, which read and write slices of one buffer. Hopper only (sm_90a).
//
// A block walks down a strip of STRIP pixels, one row of input at a time. Pixels are rows of the product, and its 96
// columns are the 32 outputs of three rows of output: what a row of input gives to the row above it, to itself and to the
// row below it, through the three rows of the kernel. So an operand of 64 pixels is read once for three taps: products of
// 64x96x16 take 48 cycles of the tensor cores and 2 + 3 KiB = 40 cycles of shared memory, where 64x32x16 take 16 and 24.
// After a row the sums move on by one place: 32 moves a thread for each 64 pixels. (Leaving them where they are and
// rotating the weights instead makes three copies of the loop, over which ptxas gives up: C7511.)
#include "conv_layout.cuh"
#include "hopper.cuh"

struct Conv32Arguments {
    unsigned long long source, target, weights, bias;
    int batch, height, width;
    int source_pitch, target_pitch;  // distance of pixels in numbers
    int strips, segments, segment_rows;
    float slope;
    int unused;
};

enum {
    OUTPUTS = 32,
    CONSUMERS = 2,
    PASSES = INPUTS / 32,          // stages of one row
    ALL_PLANES = INPUTS / 8,
    WEIGHT_ROWS = 3 * OUTPUTS,     // rows of the kernel as they lie: 2 1 0
    SUMS = OUTPUTS / 2,            // of a thread for one row of output
    WEIGHT_CELLS = 3 * ALL_PLANES * WEIGHT_ROWS,
    STAGE_CELLS = STRIP_PLANES * STRIP_HALO,
    BARRIERS_AT = (WEIGHT_CELLS + STAGES * STAGE_CELLS) * CELL_BYTES,
    SHARED_BYTES = BARRIERS_AT + 2 * STAGES * 8,
    BEHIND = STAGES - 2 < 4 ? STAGES - 2 : 4,  // stages on their way while the next is asked for
};
static_assert(SHARED_BYTES == CONV32_SHARED_BYTES, "the launch gives another amount of shared memory");
static_assert(STAGES >= 3, "one stage in use, one on its way, one ready");

struct Walk {
    int n, y, x, rows;
};

DEVICE Walk walk_of(const Conv32Arguments& a, int index) {
    const int strip = index % a.strips, rest = index / a.strips;
    const int y = rest % a.segments * a.segment_rows;
    const int left = a.height - y;
    return {rest / a.segments, y, strip * STRIP, left < a.segment_rows ? left : a.segment_rows};
}

DEVICE void load_pass(const Conv32Arguments& a, const Walk& walk, int row, int pass, unsigned int stage, int thread) {
    const Half* source = (const Half*)a.source + pass * 32;
    const int plane = thread % STRIP_PLANES, y = walk.y - 1 + row;
    const bool is_row = y >= 0 && y < a.height;
    const long long first = ((long long)walk.n * a.height + (is_row ? y : 0)) * a.width;
    UNROLL
    for (int round = 0; round < (STRIP_HALO * STRIP_PLANES + 127) / 128; ++round) {
        const int pixel = thread / STRIP_PLANES + round * (128 / STRIP_PLANES), x = walk.x - 1 + pixel;
        if (pixel < STRIP_HALO) {
            const bool is_inside = is_row && x >= 0 && x < a.width;
            copy_16(stage + strip_cell(plane, pixel) * CELL_BYTES,
                    source + (first + (is_inside ? x : 0)) * a.source_pitch + plane * 8, is_inside);
        }
    }
}

DEVICE unsigned int pick(const unsigned int (&v)[4], int index) {
    const unsigned int low = index & 1 ? v[1] : v[0], high = index & 1 ? v[3] : v[2];
    return index & 2 ? high : low;
}

// What a consumer knows while it walks.
struct Consumer {
    unsigned int stages, weights, full, empty;  // addresses; the first two in cells
    int first;                                  // of its pixels in a stage
    int round;                                  // stages so far
};

// All products of one row of input.
DEVICE void multiply_row(Consumer& c, float (&d)[3 * SUMS]) {
    NOT_UNROLLED
    for (int pass = 0; pass < PASSES; ++pass, ++c.round) {
        const int stage = c.round % STAGES;
        const unsigned int pixels = c.stages + stage * STAGE_CELLS + c.first;
        barrier_wait(c.full + stage * 8, (c.round / STAGES) & 1);
        settle(d);
        wgmma_begin();
        UNROLL
        for (int shift = 0; shift < 3; ++shift) {
            UNROLL
            for (int pair = 0; pair < STRIP_PLANES / 2; ++pair) {
                const unsigned long long from =
                    descriptor(c.weights + weight_cell(WEIGHT_ROWS, ALL_PLANES, shift, pass * STRIP_PLANES + 2 * pair, 0), WEIGHT_ROWS,
                               WEIGHT_STRIDE);
                wgmma_n96(d, descriptor(pixels + strip_cell(2 * pair, shift), STRIP_HALO, WEIGHT_STRIDE), from);
            }
        }
        wgmma_commit();
        wgmma_wait();
        settle(d);
        barrier_arrive(c.empty + stage * 8);
    }
}

// Writes the row of output that is whole, and moves the sums of the two others to their places for the next row of input.
DEVICE void finish_row(const Conv32Arguments& a, const Walk& walk, int row, int x_first, int warp, int lane,
                       const float (&bias)[OUTPUTS / 4], float (&d)[3 * SUMS]) {
    const int quarter = lane % 4;
    const long long line = ((long long)walk.n * a.height + walk.y + row) * a.width;
    UNROLL
    for (int half = 0; half < 2; ++half) {
        unsigned int mine[4], whole[4];
        UNROLL
        for (int block = 0; block < 4; ++block) {
            const int at = 4 * block + 2 * half;
            float low = d[at] + bias[2 * block];
            float high = d[at + 1] + bias[2 * block + 1];
            low = low > 0.0f ? low : low * a.slope;
            high = high > 0.0f ? high : high * a.slope;
            mine[block] = halves_of(low, high);
        }
        // four lanes hold 2 outputs each of 4 blocks of 8; afterwards each holds one block whole
        UNROLL
        for (int distance = 0; distance < 4; ++distance) {
            const unsigned int got = __shfl_xor_sync(0xFFFFFFFF, pick(mine, quarter ^ distance), distance);
            UNROLL
            for (int word = 0; word < 4; ++word)
                if (word == (quarter ^ distance)) whole[word] = got;
        }
        const int x = x_first + fragment_row(warp, lane, half);
        if (row >= 0 && x < a.width) store_words((Half*)a.target + (line + x) * a.target_pitch + quarter * 8, whole);
    }
    UNROLL
    for (int at = 0; at < SUMS; ++at) {
        d[at] = d[at + SUMS];
        d[at + SUMS] = d[at + 2 * SUMS];
        d[at + 2 * SUMS] = 0.0f;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) conv32(const __grid_constant__ Conv32Arguments a) {
    extern __shared__ __align__(1024) unsigned char memory[];
    const unsigned int base = shared_address(memory), full = base + BARRIERS_AT, empty = full + STAGES * 8;
    const unsigned int stages = base + WEIGHT_CELLS * CELL_BYTES;
    const int group = threadIdx.x / 128, thread = threadIdx.x % 128;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; ++stage) {
            barrier_init(full + stage * 8, 128);
            barrier_init(empty + stage * 8, CONSUMERS * 128);
        }
    }
    for (int cell = threadIdx.x; cell < WEIGHT_CELLS; cell += THREADS)
        copy_16(base + cell * CELL_BYTES, (const unsigned char*)a.weights + cell * CELL_BYTES, true);
    wait_for_copies();
    fence_for_wgmma();
    __syncthreads();
    const Walk walk = walk_of(a, blockIdx.x);

    if (group == 0) {
        fewer_registers<56>();
        int round = 0;
        for (int row = 0; row < walk.rows + 2; ++row) {
            for (int pass = 0; pass < PASSES; ++pass, ++round) {
                const int stage = round % STAGES;
                barrier_wait(empty + stage * 8, (round / STAGES + 1) & 1);
                load_pass(a, walk, row, pass, stages + stage * STAGE_CELLS * CELL_BYTES, thread);
                group_copies();
                if (round >= BEHIND) {
                    wait_for_groups<BEHIND>();
                    fence_for_wgmma();
                    barrier_arrive(full + (round - BEHIND) % STAGES * 8);
                }
            }
        }
        wait_for_copies();
        fence_for_wgmma();
        for (int last = round < BEHIND ? 0 : round - BEHIND; last < round; ++last)
            barrier_arrive(full + last % STAGES * 8);
    } else {
        more_registers<224>();
        const int consumer = group - 1, warp = thread / 32, lane = thread % 32, x = walk.x + consumer * STRIP_PART;
        Consumer c = {stages / CELL_BYTES, base / CELL_BYTES, full, empty, consumer * STRIP_PART, 0};
        float bias[OUTPUTS / 4], d[3 * SUMS];
        UNROLL
        for (int block = 0; block < OUTPUTS / 8; ++block) {
            UNROLL
            for (int part = 0; part < 2; ++part)
                bias[2 * block + part] = ((const float*)a.bias)[fragment_column(lane, block, part)];
        }
        UNROLL
        for (int at = 0; at < 3 * SUMS; ++at) d[at] = 0.0f;

        // row i of the walk gives to rows i - 2, i - 1 and i of output, the first two of which are nobody's at its begin
        NOT_UNROLLED
        for (int row = 0; row < walk.rows + 2; ++row) {
            multiply_row(c, d);
            finish_row(a, walk, row - 2, x, warp, lane, bias, d);
        }
    }
}
