// 3x3 convolution of INPUTS (a multiple of 32) -> 32 of NHWC float16, with bias and LeakyReLU: the growth convolutions of
// a dense block, which read and write slices of one buffer. Hopper only (sm_90a).
//
// Pixels are rows and outputs columns of the product, D[64 pixels x 32 outputs]: with 32 outputs as rows, half of a
// product's 64 rows would be wasted. A tile of 8x32 pixels is four such products for each of 9 taps and 16 channels.
// Shared memory gives 3 KiB for each, in 24 cycles, while the tensor cores need 16: that bounds this form to 2/3 of the
// peak. The halo is loaded 32 channels at a time, so that all weights fit beside the stages.
#include "conv_layout.cuh"
#include "hopper.cuh"

struct Conv32Arguments {
    unsigned long long source, target, weights, bias;
    int batch, height, width;
    int source_pitch, target_pitch;  // distance of pixels in numbers
    int tiles_across, tiles_down, tiles;
    float slope;
    int unused;
};

enum {
    OUTPUTS = 32,
    PLANES = 4,                    // of one stage
    PASSES = INPUTS / 32,          // stages of one tile
    ALL_PLANES = INPUTS / 8,
    WEIGHT_CELLS = TAPS * ALL_PLANES * OUTPUTS,
    STAGE_CELLS = PLANES * PLANE_CELLS,
    CONSUMERS = 2,
    BARRIERS_AT = (WEIGHT_CELLS + STAGES * STAGE_CELLS) * CELL_BYTES,
    SHARED_BYTES = BARRIERS_AT + 2 * STAGES * 8,
    PRODUCTS = TILE_PIXELS / 64,
};
static_assert(SHARED_BYTES == CONV32_SHARED_BYTES, "the launch gives another amount of shared memory");

struct Tile {
    int n, y, x;
};

DEVICE Tile tile_of(const Conv32Arguments& a, int index) {
    const int across = index % a.tiles_across, rest = index / a.tiles_across;
    return {rest / a.tiles_down, rest % a.tiles_down * TILE_HEIGHT, across * TILE_WIDTH};
}

DEVICE void load_pass(const Conv32Arguments& a, const Tile& tile, int pass, unsigned int stage, int thread) {
    const Half* source = (const Half*)a.source + pass * 32;
    const int plane = thread % PLANES;
    for (int pixel = thread / PLANES; pixel < HALO_PIXELS; pixel += 128 / PLANES) {
        const int y = tile.y - 1 + pixel / HALO_WIDTH, x = tile.x - 1 + pixel % HALO_WIDTH;
        const bool is_inside = y >= 0 && y < a.height && x >= 0 && x < a.width;
        const long long at = is_inside ? ((long long)tile.n * a.height + y) * a.width + x : 0;
        copy_16(stage + pixel_cell(plane, pixel) * CELL_BYTES, source + at * a.source_pitch + plane * 8, is_inside);
    }
}

DEVICE unsigned int pick(const unsigned int (&v)[4], int index) {
    const unsigned int low = index & 1 ? v[1] : v[0], high = index & 1 ? v[3] : v[2];
    return index & 2 ? high : low;
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) conv32(const __grid_constant__ Conv32Arguments a) {
    extern __shared__ __align__(1024) unsigned char memory[];
    const unsigned int base = shared_address(memory), full = base + BARRIERS_AT, empty = full + STAGES * 8;
    const unsigned int stages = base + WEIGHT_CELLS * CELL_BYTES;
    const int group = threadIdx.x / 128, thread = threadIdx.x % 128;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; ++stage) {
            barrier_init(full + stage * 8, 128);
            barrier_init(empty + stage * 8, 128);
        }
    }
    for (int cell = threadIdx.x; cell < WEIGHT_CELLS; cell += THREADS)
        copy_16(base + cell * CELL_BYTES, (const unsigned char*)a.weights + cell * CELL_BYTES, true);
    wait_for_copies();
    fence_for_wgmma();
    __syncthreads();

    if (group == 0) {
        fewer_registers<40>();
        int round = 0;  // passes so far, of both consumers: tile 0 of consumer 0, tile 1 of consumer 1, ...
        for (int index = blockIdx.x; index < a.tiles; index += gridDim.x) {
            const Tile tile = tile_of(a, index);
            for (int pass = 0; pass < PASSES; ++pass, ++round) {
                const int stage = round % STAGES;
                barrier_wait(empty + stage * 8, (round / STAGES + 1) & 1);
                load_pass(a, tile, pass, stages + stage * STAGE_CELLS * CELL_BYTES, thread);
                wait_for_copies();
                fence_for_wgmma();
                barrier_arrive(full + stage * 8);
            }
        }
    } else {
        more_registers<232>();
        const int consumer = group - 1, warp = thread / 32, lane = thread % 32;
        const unsigned int weights = base / CELL_BYTES;
        float bias[OUTPUTS / 4];
        UNROLL
        for (int block = 0; block < OUTPUTS / 8; ++block) {
            UNROLL
            for (int part = 0; part < 2; ++part)
                bias[2 * block + part] = ((const float*)a.bias)[fragment_column(lane, block, part)];
        }
        int round = consumer * PASSES;
        for (int index = blockIdx.x + consumer * gridDim.x; index < a.tiles;
             index += CONSUMERS * gridDim.x, round += (CONSUMERS - 1) * PASSES) {
            float d[PRODUCTS][OUTPUTS / 2];
            UNROLL
            for (int product = 0; product < PRODUCTS; ++product)
                UNROLL
                for (int at = 0; at < OUTPUTS / 2; ++at) d[product][at] = 0.0f;
            NOT_UNROLLED
            for (int pass = 0; pass < PASSES; ++pass, ++round) {
                const int stage = round % STAGES;
                const unsigned int pixels = (stages + stage * STAGE_CELLS * CELL_BYTES) / CELL_BYTES;
                barrier_wait(full + stage * 8, (round / STAGES) & 1);
                UNROLL
                for (int product = 0; product < PRODUCTS; ++product) settle(d[product]);
                wgmma_begin();
                UNROLL
                for (int tap = 0; tap < TAPS; ++tap) {
                    UNROLL
                    for (int pair = 0; pair < PLANES / 2; ++pair) {
                        const unsigned int from =
                            weights + weight_cell(OUTPUTS, ALL_PLANES, tap, pass * PLANES + 2 * pair, 0);
                        UNROLL
                        for (int product = 0; product < PRODUCTS; ++product)
                            wgmma_n32(d[product],
                                      descriptor(pixels + operand_cell(pair, tap, product * 64 / TILE_WIDTH),
                                                 OPERAND_LEADING, OPERAND_STRIDE),
                                      descriptor(from, OUTPUTS, WEIGHT_STRIDE), 1);
                    }
                }
                wgmma_commit();
                wgmma_wait();
                UNROLL
                for (int product = 0; product < PRODUCTS; ++product) settle(d[product]);
                barrier_arrive(empty + stage * 8);
            }
            const Tile tile = tile_of(a, index);
            const int quarter = lane % 4;
            UNROLL
            for (int product = 0; product < PRODUCTS; ++product) {
                UNROLL
                for (int half = 0; half < 2; ++half) {
                    unsigned int mine[4], whole[4];
                    UNROLL
                    for (int block = 0; block < 4; ++block) {
                        float low = d[product][4 * block + 2 * half] + bias[2 * block];
                        float high = d[product][4 * block + 2 * half + 1] + bias[2 * block + 1];
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
                    const int pixel = product * 64 + fragment_row(warp, lane, half);
                    const int y = tile.y + pixel / TILE_WIDTH, x = tile.x + pixel % TILE_WIDTH;
                    if (y < a.height && x < a.width) {
                        const long long at = ((long long)tile.n * a.height + y) * a.width + x;
                        store_words((Half*)a.target + at * a.target_pitch + quarter * 8, whole);
                    }
                }
            }
        }
    }
}
