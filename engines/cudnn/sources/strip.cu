// 3x3 convolution of NHWC float16 or e4m3 by walking down strips; with bias, activation, stored values added, or the planar picture
// as a result. Hopper only (sm_90a). strip_layout.cuh says what lies where.
//
// A block walks down strips of the picture, one row of input at a time; TMA brings rows into a ring of SLOTS, zeros where
// there is no picture. Pixels are rows of the product, and its columns are the outputs of all rows of output to which a
// row of input contributes: an operand of 64 pixels is read once for three taps. After a row the sums move on by one row
// of output; the one that is whole is written while the products of the next row run.
//
// ENLARGES: the convolution of the picture with every pixel repeated 2 x 2 times, from the small one. Two of three taps
// fall on one pixel; their kernels are added beforehand. A row contributes to four rows of output, of which two are whole
// afterwards; one consumer computes their even pixels, the other the odd ones.
#include "strip_layout.cuh"
#include "hopper.cuh"

struct StripArguments {
    TensorMap source;
    unsigned long long target, weights, bias, slopes;
    unsigned long long added, added_later;   // NHWC, as the target; ADDS says how many there are
    unsigned long long image;                // planar, added to every pixel of a planar target, if HAS_BASE
    unsigned long long narrow_target;        // the same in e4m3, if STORES_E4M3
    unsigned long long descale;              // what sums are multiplied by, an output each, if READS_E4M3
    int height, width;                       // of the source
    int target_pitch, narrow_pitch, added_pitch, added_later_pitch;  // distance of pixels in numbers
    int columns;                             // strips side by side
    int share, rest;                         // rows of strips of a walker; how many walkers have one more
    int parts;                               // of the outputs, a block each
    float factor;                            // of the sum before added_later
    float narrow_factor;                     // of what is stored in e4m3
};

enum {
    WEIGHTS_AT = SLOTS * SLOT_BYTES,
    TABLES_AT = WEIGHTS_AT + WEIGHT_BYTES,
    BARRIERS_AT = TABLES_AT + (READS_E4M3 ? 3 : 2) * OUTPUTS * 4,
    SHARED_BYTES = BARRIERS_AT + (2 * SLOTS + CHUNKS) * 8,
    SCALE = ENLARGES ? 2 : 1,
    // What is added is asked for before any of it is needed: memory answers after some 700 cycles, and four times one after
    // the other is longer than the products of a row take. Of 32 outputs it is asked for twice only.
    LOADS_AHEAD = OUTPUTS > 32,
};
static_assert(SHARED_BYTES == STRIP_SHARED_BYTES, "the launch gives another amount of shared memory");
static_assert(!ENLARGES || CONSUMERS == 2, "even and odd pixels");
static_assert(FACTOR > 0 || STORES_HALF || STORES_E4M3, "a result that goes nowhere");

#if FACTOR > 0
#if IS_HALF
using Pixel = Half;
DEVICE float value_of(Pixel pixel) { return widened(pixel); }
DEVICE void store_pixel_if(bool condition, Pixel* to, float value) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %0, 0; @p st.global.b16 [%1], %2;}" ::"r"((int)condition), "l"(to),
                 "h"(rounded_to_half(value).bits)
                 : "memory");
}
#else
using Pixel = float;
DEVICE float value_of(Pixel pixel) { return pixel; }
DEVICE void store_pixel_if(bool condition, Pixel* to, float value) {
    const unsigned int words[1] = {(unsigned int)bits_of(value)};
    store_words_if(condition, to, words);
}
#endif
#endif

// Rows [first, last) of a strip, in pixels of the source.
struct Segment {
    int n, x, first, last;
};

// What one block has to do: rows of strips, strip after strip.
struct Walk {
    int at, end;

    DEVICE_MEMBER bool next(const StripArguments& a, Segment& segment) {
        if (at >= end) return false;
        const int line = at / a.height, y = at % a.height;
        const int left = a.height - y, count = left < end - at ? left : end - at;
        segment = {line / a.columns, line % a.columns * STRIP_PIXELS, y, y + count};
        at += count;
        return true;
    }
};

DEVICE Walk walk_of(const StripArguments& a, int walker) {
    const int first = walker * a.share + (walker < a.rest ? walker : a.rest);
    return {first, first + a.share + (walker < a.rest ? 1 : 0)};
}

// A place in the ring.
struct Place {
    int slot = 0, parity = 0;

    DEVICE_MEMBER void advance() {
        if (++slot == SLOTS) {
            slot = 0;
            parity ^= 1;
        }
    }
};

// What a consumer's threads know of themselves.
struct Worker {
    int consumer, warp, lane;
    const unsigned char* tables;  // in shared memory
    int first_output;
};

DEVICE void load_strips(const StripArguments& a, Walk walk, unsigned int base, unsigned int full, unsigned int empty,
                        unsigned int weights_full, int part) {
    const unsigned char* weights = (const unsigned char*)a.weights + (long long)part * WEIGHT_BYTES;
    UNROLL
    for (int chunk = 0; chunk < CHUNKS; ++chunk) {
        const int first = chunk_cell(chunk) * CELL_BYTES;
        const int bytes = PARITIES * SHIFTS * planes_of(chunk) * COLUMNS * CELL_BYTES;
        barrier_expect(weights_full + chunk * 8, bytes);
        load_bytes(base + WEIGHTS_AT + first, weights + first, bytes, weights_full + chunk * 8);
    }
    Place place;
    Segment segment;
    while (walk.next(a, segment)) {
        for (int y = segment.first - 1; y <= segment.last; ++y) {
            for (int chunk = 0; chunk < CHUNKS; ++chunk) {
                const unsigned int arrived = full + place.slot * 8, slot = base + place.slot * SLOT_BYTES;
                barrier_wait(empty + place.slot * 8, place.parity ^ 1);
                barrier_expect(arrived, SLOT_LOADED);
                if (SWIZZLED)
                    load_box_4d(slot, a.source, chunk * 8 * CELL_CHANNELS, segment.x - 1, y, segment.n, arrived);
                else
                    load_box_5d(slot, a.source, 0, segment.x - 1, chunk * SLOT_PLANES, y, segment.n, arrived);
                place.advance();
            }
        }
    }
}

// Four lanes hold a word each of four blocks; afterwards each holds the words of one block whole.
DEVICE void exchange(unsigned int (&w)[4], int lane) {
    const bool is_high = lane & 2, is_odd = lane & 1;
    const unsigned int mine[2] = {is_high ? w[2] : w[0], is_high ? w[3] : w[1]};
    const unsigned int theirs[2] = {is_high ? w[0] : w[2], is_high ? w[1] : w[3]};
    const unsigned int far[2] = {__shfl_xor_sync(0xFFFFFFFF, theirs[0], 2), __shfl_xor_sync(0xFFFFFFFF, theirs[1], 2)};
    const unsigned int own = is_odd ? mine[1] : mine[0], across = is_odd ? far[1] : far[0];
    const unsigned int near = __shfl_xor_sync(0xFFFFFFFF, is_odd ? mine[0] : mine[1], 1);
    const unsigned int corner = __shfl_xor_sync(0xFFFFFFFF, is_odd ? far[0] : far[1], 1);
    // of lanes lane, lane ^ 1, lane ^ 2, lane ^ 3; wanted in the order of lanes
    const unsigned int a = is_odd ? near : own, b = is_odd ? own : near;
    const unsigned int c = is_odd ? corner : across, d = is_odd ? across : corner;
    w[0] = is_high ? c : a;
    w[1] = is_high ? d : b;
    w[2] = is_high ? a : c;
    w[3] = is_high ? b : d;
}

// Bias and activation of two neighbouring outputs.
DEVICE void activate(const Worker& me, int block, float& low, float& high) {
    const int output = fragment_column(me.lane, block, 0);
    const float* bias = (const float*)me.tables + output;
    if (READS_E4M3) {
        const float* descale = bias + 2 * OUTPUTS;
        low *= descale[0];
        high *= descale[1];
    }
    low += bias[0];
    high += bias[1];
    if (ACTIVATES) {
        const float* slopes = bias + OUTPUTS;
        low = low > 0.0f ? low : low * slopes[0];
        high = high > 0.0f ? high : high * slopes[1];
    }
}

#if FACTOR == 0
// A pixel of the target that a thread writes to, if it is there.
struct Spot {
    bool is_inside;
    long long at;
};

DEVICE Spot spot_of(const StripArguments& a, const Worker& me, bool is_wanted, int n, int y, int x, int half) {
    const int column = x + fragment_row(me.warp, me.lane, half);
    const bool is_inside = is_wanted && column < a.width;
    const int across = ENLARGES ? 2 * column + me.consumer : column;
    const long long there = ((long long)n * a.height * SCALE + y) * (a.width * SCALE) + across;
    return {is_inside, is_inside ? there : 0};
}

// What is added to both pixels of a thread, two outputs a word.
struct Added {
    unsigned int first[2][OUTPUTS / 8], later[2][OUTPUTS / 8];
};

DEVICE void load_added(const StripArguments& a, const Worker& me, long long pixel, int half, Added& added) {
    UNROLL
    for (int block = 0; block < OUTPUTS / 8; ++block) {
        const int output = me.first_output + fragment_column(me.lane, block, 0);
        if (ADDS > 0)
            added.first[half][block] = *(const unsigned int*)((const Half*)a.added + pixel * a.added_pitch + output);
        if (ADDS > 1)
            added.later[half][block] =
                *(const unsigned int*)((const Half*)a.added_later + pixel * a.added_later_pitch + output);
    }
}

DEVICE void add_stored(const StripArguments& a, const Added& added, int half, int block, float& low, float& high) {
    if (ADDS > 0) {
        float more_low, more_high;
        widen_halves(added.first[half][block], more_low, more_high);
        low += more_low;
        high += more_high;
    }
    if (ADDS > 1) {
        float more_low, more_high;
        widen_halves(added.later[half][block], more_low, more_high);
        low = low * a.factor + more_low;
        high = high * a.factor + more_high;
    }
}

// One row of output, at row y of picture n of the target; x: of the consumer's first pixel in the source. No branches:
// ptxas keeps no products in flight across them.
DEVICE void store_row(const StripArguments& a, const Worker& me, bool is_wanted, int n, int y, int x, const float* sums) {
    Added added;
    if (LOADS_AHEAD) {
        UNROLL
        for (int half = 0; half < 2; ++half)
            load_added(a, me, spot_of(a, me, is_wanted, n, y, x, half).at, half, added);
    }
    unsigned int narrow[OUTPUTS / 8];  // two outputs of both pixels of a thread, for each block
    UNROLL
    for (int half = 0; half < 2; ++half) {
        const Spot pixel = spot_of(a, me, is_wanted, n, y, x, half);
        if (!LOADS_AHEAD) load_added(a, me, pixel.at, half, added);
        UNROLL
        for (int first = 0; first < OUTPUTS / 8; first += 4) {
            unsigned int words[4];
            UNROLL
            for (int word = 0; word < 4; ++word) {
                const int block = first + word;
                float low = sums[4 * block + 2 * half], high = sums[4 * block + 2 * half + 1];
                activate(me, block, low, high);
                add_stored(a, added, half, block, low, high);
                words[word] = halves_of(low, high);
                if (STORES_E4M3) {
                    const unsigned int pair = e4m3_of(low * a.narrow_factor, high * a.narrow_factor);
                    narrow[block] = half == 0 ? pair : narrow[block] | pair << 16;
                }
            }
            if (STORES_HALF) {
                exchange(words, me.lane);
                Half* target = (Half*)a.target + pixel.at * a.target_pitch + me.first_output;
                store_words_if(pixel.is_inside, target + (first + me.lane % 4) * 8, words);
            }
        }
    }
    if (STORES_E4M3) {
        UNROLL
        for (int first = 0; first < OUTPUTS / 8; first += 4) {
            unsigned int words[4] = {narrow[first], narrow[first + 1], narrow[first + 2], narrow[first + 3]};
            exchange(words, me.lane);
            UNROLL
            for (int half = 0; half < 2; ++half) {
                const Spot pixel = spot_of(a, me, is_wanted, n, y, x, half);
                const unsigned int selector = half == 0 ? 0x5410 : 0x7632;  // the lower or the upper 16 bits of both
                const unsigned int row[2] = {__byte_perm(words[0], words[1], selector),
                                             __byte_perm(words[2], words[3], selector)};
                unsigned char* target = (unsigned char*)a.narrow_target + pixel.at * a.narrow_pitch + me.first_output;
                store_words_if(pixel.is_inside, target + (first + me.lane % 4) * 8, row);
            }
        }
    }
}
#else
// The same into a planar picture: outputs are (colour, row, column) of FACTOR x FACTOR pixels.
DEVICE void store_row(const StripArguments& a, const Worker& me, bool is_wanted, int n, int y, int x, const float* sums) {
    const long long plane = (long long)a.height * a.width;
    UNROLL
    for (int half = 0; half < 2; ++half) {
        const int column = x + fragment_row(me.warp, me.lane, half);
        const bool is_inside = is_wanted && column < a.width;
        UNROLL
        for (int block = 0; block < OUTPUTS / 8; ++block) {
            float v[2] = {sums[4 * block + 2 * half], sums[4 * block + 2 * half + 1]};
            activate(me, block, v[0], v[1]);
            const int output = fragment_column(me.lane, block, 0);
            const int colour = output / (FACTOR * FACTOR);
#if FACTOR == 1
            UNROLL
            for (int part = 0; part < 2; ++part) {
                const bool is_real = is_inside && colour + part < COLOURS;
                const long long at = is_real ? (n * COLOURS + colour + part) * plane + (long long)y * a.width + column : 0;
                if (HAS_BASE) v[part] += value_of(((const Pixel*)a.image)[at]);
                store_pixel_if(is_real, (Pixel*)a.target + at, v[part]);
            }
#else
            const bool is_real = is_inside && colour < COLOURS;
            const int row = output / FACTOR % FACTOR, first = output % FACTOR;
            const long long of_colour = is_real ? (n * COLOURS + colour) * plane : 0;
            const long long from = is_real ? (long long)y * a.width + column : 0;
            if (HAS_BASE) {
                const float base = value_of(((const Pixel*)a.image)[of_colour + from]);
                v[0] += base;
                v[1] += base;
            }
            Pixel* to = (Pixel*)a.target + of_colour * (FACTOR * FACTOR) +
                        ((long long)y * FACTOR + row) * (a.width * FACTOR) + column * FACTOR + first;
#if IS_HALF
            const unsigned int words[1] = {halves_of(v[0], v[1])};
#else
            const unsigned int words[2] = {(unsigned int)bits_of(v[0]), (unsigned int)bits_of(v[1])};
#endif
            store_words_if(is_real, to, words);
#endif
        }
    }
}
#endif

// A finished row (two where the picture is enlarged) that waits to be written.
struct Pending {
    int n, x, y;
    bool is_wanted[FINISHED];
};

DEVICE void store_pending(const StripArguments& a, const Worker& me, const Pending& pending,
                          const float (&sums)[FINISHED * SUMS]) {
    UNROLL
    for (int row = 0; row < FINISHED; ++row)
        store_row(a, me, pending.is_wanted[row], pending.n, pending.y + row, pending.x, sums + row * SUMS);
}

// The products of one row of input, from the slots of its chunks on. Written without loops over chunks, whose lengths
// differ: what the compiler does not unroll is a branch.
template <int CHUNK>
DEVICE void multiply_chunks(float (&d)[BLOCKS * SUMS], unsigned int weights, unsigned int base,
                            const unsigned int (&slots)[CHUNKS], int consumer) {
    constexpr int LEFT = ALL_PLANES - CHUNK * SLOT_PLANES, PLANES = LEFT < SLOT_PLANES ? LEFT : SLOT_PLANES;
    constexpr int SHIFTS_AT_ONCE = IS_NARROW ? 2 : 1, PAIRS = IS_NARROW ? 1 : PLANES / 2;
    const unsigned int slot = base + slots[CHUNK] * SLOT_BYTES;
    const int parity = ENLARGES ? consumer : 0;
    UNROLL
    for (int pair = 0; pair < PAIRS; ++pair) {
        UNROLL
        for (int shift = 0; shift < SHIFTS; shift += SHIFTS_AT_ONCE) {
            const unsigned long long pixels = pixel_operand(slot, first_pixel(consumer) + shift, pair);
            const unsigned int cell = weights + strip_weight_cell(CHUNK, parity, shift, 2 * pair, 0);
            const unsigned long long taps = descriptor(cell, COLUMNS, WEIGHT_STRIDE);
            if (READS_E4M3)
                multiply_e4m3(d, pixels, taps);
            else
                multiply(d, pixels, taps);
        }
    }
    wgmma_commit();
    if constexpr (CHUNK + 1 < CHUNKS) multiply_chunks<CHUNK + 1>(d, weights, base, slots, consumer);
}

// Gives back each chunk's slot as soon as its products are done.
template <int CHUNK>
DEVICE void leave_chunks(const unsigned int (&slots)[CHUNKS], unsigned int empty, bool is_first_lane) {
    wgmma_wait_but<CHUNKS - 1 - CHUNK>();
    barrier_arrive_if(is_first_lane, empty + slots[CHUNK] * 8);
    if constexpr (CHUNK + 1 < CHUNKS) leave_chunks<CHUNK + 1>(slots, empty, is_first_lane);
}

DEVICE void compute_strips(const StripArguments& a, const Worker& me, Walk walk, unsigned int base, unsigned int full,
                           unsigned int empty, unsigned int weights_full) {
    const unsigned int weights = (base + WEIGHTS_AT) / CELL_BYTES;
    float d[BLOCKS * SUMS], finished[FINISHED * SUMS];
    UNROLL
    for (int at = 0; at < BLOCKS * SUMS; ++at) d[at] = 0.0f;
    Place place;
    Pending pending = {};
    Segment segment;
    UNROLL
    for (int chunk = 0; chunk < CHUNKS; ++chunk) barrier_wait(weights_full + chunk * 8, 0);
    while (walk.next(a, segment)) {
        NOT_UNROLLED
        for (int y = segment.first - 1; y <= segment.last; ++y) {
            // all chunks are waited for first: ptxas keeps no products in flight across branches
            unsigned int slots[CHUNKS];
            UNROLL
            for (int chunk = 0; chunk < CHUNKS; ++chunk) {
                barrier_wait(full + place.slot * 8, place.parity);
                slots[chunk] = place.slot;
                place.advance();
            }
            settle(d);
            wgmma_begin();
            multiply_chunks<0>(d, weights, base, slots, me.consumer);
            store_pending(a, me, pending, finished);
            leave_chunks<0>(slots, empty, me.lane == 0);
            settle(d);
            UNROLL
            for (int at = 0; at < BLOCKS * SUMS; ++at) {
                if (at < FINISHED * SUMS) finished[at] = d[at];
                d[at] = at + FINISHED * SUMS < BLOCKS * SUMS ? d[at + FINISHED * SUMS] : 0.0f;
            }
            pending.n = segment.n;
            pending.x = segment.x + (ENLARGES ? 0 : me.consumer * PART);
            pending.y = SCALE * y - 1;
            UNROLL
            for (int row = 0; row < FINISHED; ++row) {
                const int out = pending.y + row;
                pending.is_wanted[row] = out >= SCALE * segment.first && out < SCALE * segment.last;
            }
        }
    }
    store_pending(a, me, pending, finished);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) strip(const __grid_constant__ StripArguments a) {
    extern __shared__ __align__(1024) unsigned char memory[];
    const unsigned int base = shared_address(memory), full = base + BARRIERS_AT, empty = full + SLOTS * 8;
    const unsigned int weights_full = empty + SLOTS * 8;
    const int part = blockIdx.x % a.parts, group = threadIdx.x / 128, thread = threadIdx.x % 128;
    const Walk walk = walk_of(a, blockIdx.x / a.parts);
    if (threadIdx.x == 0) {
        for (int slot = 0; slot < SLOTS; ++slot) {
            barrier_init(full + slot * 8, 1);
            barrier_init(empty + slot * 8, 4 * CONSUMERS);
        }
        for (int chunk = 0; chunk < CHUNKS; ++chunk) barrier_init(weights_full + chunk * 8, 1);
        fence_for_wgmma();
    }
    if (threadIdx.x < OUTPUTS) {
        float* tables = (float*)(memory + TABLES_AT);
        const int output = part * OUTPUTS + threadIdx.x;
        tables[threadIdx.x] = ((const float*)a.bias)[output];
        tables[OUTPUTS + threadIdx.x] = ACTIVATES ? ((const float*)a.slopes)[output] : 1.0f;
        if (READS_E4M3) tables[2 * OUTPUTS + threadIdx.x] = ((const float*)a.descale)[output];
    }
    __syncthreads();
    if (group == 0) {
        fewer_registers<24>();
        if (thread == 0) load_strips(a, walk, base, full, empty, weights_full, part);
    } else {
        more_registers<CONSUMERS == 2 ? 240 : 160>();
        const Worker me = {group - 1, thread / 32, thread % 32, memory + TABLES_AT, part * OUTPUTS};
        compute_strips(a, me, walk, base, full, empty, weights_full);
    }
}
