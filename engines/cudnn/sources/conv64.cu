// 3x3 convolution INPUTS (64 or 8) -> 64 of NHWC float16, with bias and, if HAS_SLOPES, PReLU. Hopper only (sm_90a).
//
// Outputs are rows and pixels columns of the product: D[64 outputs x 256 pixels] += W[64 x 16] X[256 x 16]^T, 9 taps of
// 4 products each. Pixels as the long side halves what tensor cores read from shared memory per operation against
// 64 pixels x 64 outputs (10 instead of 16 KiB for 4 products of 64x64x16), and bias and slope are two numbers a thread.
//
// One block lives on each multiprocessor. Its first warpgroup loads tiles of 8x32 pixels with halo into STAGES stages of
// shared memory; the two others each compute every second tile. All weights stay in shared memory.
//
// Products are 16 inputs deep. Where a pixel has only 8, as in a network's first layer, the other 8 are the next tap's:
// the two halves of an operand lie as far apart as the taps do. The tenth tap has zeros for weights.
#include "conv_layout.cuh"
#include "hopper.cuh"

struct Conv64Arguments {
    unsigned long long source, target, weights, bias, slopes;
    int batch, height, width;
    int source_pitch, target_pitch;  // distance of pixels in numbers
    int tiles_across, tiles_down, tiles;
};

enum {
    PLANES = INPUTS / 8,
    OUTPUT_PLANES = 8,
    WEIGHT_CELLS = (PLANES == 1 ? TAPS + 1 : TAPS * PLANES) * 64,
    STAGE_CELLS = PLANES * PLANE_CELLS,
    CONSUMERS = 2,
    BEHIND = STAGES - 2,  // stages on their way while the next is asked for
    STAGED_AT = (WEIGHT_CELLS + STAGES * STAGE_CELLS) * CELL_BYTES,
    BARRIERS_AT = STAGED_AT + CONSUMERS * STAGED_BYTES,
    SHARED_BYTES = BARRIERS_AT + 2 * STAGES * 8,
};
static_assert(SHARED_BYTES == CONV64_SHARED_BYTES, "the launch gives another amount of shared memory");

struct Tile {
    int n, y, x;
};

DEVICE Tile tile_of(const Conv64Arguments& a, int index) {
    const int across = index % a.tiles_across, rest = index / a.tiles_across;
    return {rest / a.tiles_down, rest % a.tiles_down * TILE_HEIGHT, across * TILE_WIDTH};
}

DEVICE void load_tile(const Conv64Arguments& a, const Tile& tile, unsigned int stage, int thread) {
    const Half* source = (const Half*)a.source;
    const int plane = thread % PLANES;  // 8 threads read the 128 bytes of one pixel
    for (int pixel = thread / PLANES; pixel < HALO_PIXELS; pixel += 128 / PLANES) {
        const int y = tile.y - 1 + pixel / HALO_WIDTH, x = tile.x - 1 + pixel % HALO_WIDTH;
        const bool is_inside = y >= 0 && y < a.height && x >= 0 && x < a.width;
        const long long at = is_inside ? ((long long)tile.n * a.height + y) * a.width + x : 0;
        copy_16(stage + pixel_cell(plane, pixel) * CELL_BYTES, source + at * a.source_pitch + plane * 8, is_inside);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) conv64(const __grid_constant__ Conv64Arguments a) {
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
        int round = 0;
        for (int index = blockIdx.x; index < a.tiles; index += gridDim.x, ++round) {
            const int stage = round % STAGES;
            barrier_wait(empty + stage * 8, (round / STAGES + 1) & 1);
            load_tile(a, tile_of(a, index), stages + stage * STAGE_CELLS * CELL_BYTES, thread);
            group_copies();
            if (round >= BEHIND) {
                wait_for_groups<BEHIND>();
                fence_for_wgmma();
                barrier_arrive(full + (round - BEHIND) % STAGES * 8);
            }
        }
        wait_for_copies();
        fence_for_wgmma();
        for (int last = round < BEHIND ? 0 : round - BEHIND; last < round; ++last)
            barrier_arrive(full + last % STAGES * 8);
    } else {
        more_registers<232>();
        const int consumer = group - 1, warp = thread / 32, lane = thread % 32;
        unsigned char* staged = memory + STAGED_AT + consumer * STAGED_BYTES;
        float bias[2], slope[2];
        UNROLL
        for (int half = 0; half < 2; ++half) {
            const int output = fragment_row(warp, lane, half);
            bias[half] = ((const float*)a.bias)[output];
            slope[half] = HAS_SLOPES ? ((const float*)a.slopes)[output] : 1.0f;
        }
        for (int round = consumer, index = blockIdx.x + consumer * gridDim.x; index < a.tiles;
             round += CONSUMERS, index += CONSUMERS * gridDim.x) {
            const int stage = round % STAGES;
            const unsigned int pixels = (stages + stage * STAGE_CELLS * CELL_BYTES) / CELL_BYTES;
            const unsigned int weights = base / CELL_BYTES;
            float d[TILE_PIXELS / 2];
            barrier_wait(full + stage * 8, (round / STAGES) & 1);
            wgmma_begin();
#if INPUTS == 8
            UNROLL
            for (int tap = 0; tap < TAPS; tap += 2)
                wgmma_n256(d, descriptor(weights + weight_cell(64, 1, tap, 0, 0), 64, WEIGHT_STRIDE),
                           descriptor(pixels + operand_cell(0, tap, 0), next_tap_leading(tap), OPERAND_STRIDE), tap > 0);
#else
            UNROLL
            for (int tap = 0; tap < TAPS; ++tap) {
                UNROLL
                for (int pair = 0; pair < PLANES / 2; ++pair) {
                    wgmma_n256(d, descriptor(weights + weight_cell(64, PLANES, tap, 2 * pair, 0), 64, WEIGHT_STRIDE),
                               descriptor(pixels + operand_cell(pair, tap, 0), OPERAND_LEADING, OPERAND_STRIDE),
                               tap + pair > 0);
                }
            }
#endif
            wgmma_commit();
            wgmma_wait();
            settle(d);
            barrier_arrive(empty + stage * 8);

            const Tile tile = tile_of(a, index);
            UNROLL
            for (int part = 0; part < TILE_PIXELS / STAGED_PIXELS; ++part) {
                UNROLL
                for (int block = 0; block < STAGED_PIXELS / 8; block += 2) {
                    unsigned int words[4];
                    UNROLL
                    for (int matrix = 0; matrix < 4; ++matrix) {
                        const int at = 4 * (part * STAGED_PIXELS / 8 + block + matrix / 2) + 2 * (matrix % 2);
                        float low = d[at] + bias[matrix % 2], high = d[at + 1] + bias[matrix % 2];
                        if (HAS_SLOPES) {
                            low = low > 0.0f ? low : low * slope[matrix % 2];
                            high = high > 0.0f ? high : high * slope[matrix % 2];
                        }
                        words[matrix] = halves_of(low, high);
                    }
                    store_transposed(shared_address(staged) + staged_byte(warp, lane, block), words[0], words[1],
                                     words[2], words[3]);
                }
                warpgroup_barrier(1 + consumer);
                UNROLL
                for (int item = thread; item < STAGED_PIXELS * OUTPUT_PLANES; item += 128) {
                    const int pixel = item / OUTPUT_PLANES, plane = item % OUTPUT_PLANES;
                    const int y = tile.y + part * (STAGED_PIXELS / TILE_WIDTH) + pixel / TILE_WIDTH;
                    const int x = tile.x + pixel % TILE_WIDTH;
                    if (y < a.height && x < a.width) {
                        const uint4 cell = *(const uint4*)(staged + pixel * STAGED_ROW_BYTES + plane * CELL_BYTES);
                        const long long at = ((long long)tile.n * a.height + y) * a.width + x;
                        *(uint4*)((Half*)a.target + at * a.target_pitch + plane * 8) = cell;
                    }
                }
                warpgroup_barrier(1 + consumer);
            }
        }
    }
}
