// One tile of the Hopper convolutions on a processor, with the very index functions that the kernels use.
#include "wgmma_on_cpu.hpp"

namespace {

void load(Memory& memory, int first, const float* halo, int channels, int channel, int planes) {
    for (int plane = 0; plane < planes; ++plane)
        for (int pixel = 0; pixel < HALO_PIXELS; ++pixel)
            for (int k = 0; k < 8; ++k)
                memory.at(first + pixel_cell(plane, pixel), k) = halo[pixel * channels + channel + plane * 8 + k];
}

void load_weights(Memory& memory, const float* weights, int cells) {
    for (int index = 0; index < cells * 8; ++index) memory.values[index] = weights[index];
}

}  // namespace

extern "C" int halo_pixels() { return HALO_PIXELS; }
extern "C" int tile_width() { return TILE_WIDTH; }
extern "C" int tile_height() { return TILE_HEIGHT; }

extern "C" void conv64_tile(const float* halo, const float* weights, float* result, int inputs) {
    const int planes = inputs / 8, output_planes = 8, weight_cells = (planes == 1 ? TAPS + 1 : TAPS * planes) * 64;
    Memory memory(weight_cells + planes * PLANE_CELLS);
    load_weights(memory, weights, weight_cells);
    load(memory, weight_cells, halo, inputs, 0, planes);
    Registers d(128, std::vector<float>(TILE_PIXELS / 2));
    for (int tap = 0; tap < TAPS && planes == 1; tap += 2)
        multiply(d, memory, descriptor(weight_cell(64, 1, tap, 0, 0), 64, WEIGHT_STRIDE),
                 descriptor(weight_cells + operand_cell(0, tap, 0), next_tap_leading(tap), OPERAND_STRIDE));
    for (int tap = 0; tap < TAPS; ++tap)
        for (int pair = 0; pair < planes / 2; ++pair)
            multiply(d, memory, descriptor(weight_cell(64, planes, tap, 2 * pair, 0), 64, WEIGHT_STRIDE),
                     descriptor(weight_cells + operand_cell(pair, tap, 0), OPERAND_LEADING, OPERAND_STRIDE));
    for (int part = 0; part < TILE_PIXELS / STAGED_PIXELS; ++part) {
        std::vector<float> staged(STAGED_BYTES / 2, 1e30f);
        for (int warp = 0; warp < 4; ++warp)
            for (int block = 0; block < STAGED_PIXELS / 8; block += 2)
                for (int matrix = 0; matrix < 4; ++matrix)
                    for (int lane = 0; lane < 32; ++lane)
                        for (int word = 0; word < 2; ++word) {
                            const int at = 4 * (part * STAGED_PIXELS / 8 + block + matrix / 2) + 2 * (matrix % 2);
                            // stmatrix.trans: what would be row lane / 4, column 2 * (lane % 4) + word is stored at
                            // that column's row, whose address lane 8 * matrix + row gives.
                            const int row = 2 * (lane % 4) + word, column = lane / 4;
                            const int byte = staged_byte(warp, 8 * matrix + row, block) + 2 * column;
                            staged.at(byte / 2) = d[warp * 32 + lane][at + word];
                        }
        for (int item = 0; item < STAGED_PIXELS * output_planes; ++item) {
            const int pixel = item / output_planes, plane = item % output_planes;
            for (int k = 0; k < 8; ++k)
                result[(part * STAGED_PIXELS + pixel) * 64 + plane * 8 + k] =
                    staged.at((pixel * STAGED_ROW_BYTES + plane * CELL_BYTES) / 2 + k);
        }
    }
}

// Rows of output that one consumer, the second of a strip, makes while it walks: `halo` is (rows + 2, STRIP_HALO, inputs),
// `result` (rows, STRIP_PART, 32).
extern "C" void conv32_walk(const float* halo, const float* weights, float* result, int inputs, int rows) {
    const int planes = STRIP_PLANES, outputs = 32, sums = outputs / 2, all_planes = inputs / 8, across = 3 * outputs;
    const int weight_cells = 3 * all_planes * across;
    Registers d(128, std::vector<float>(3 * sums));
    for (int row = 0; row < rows + 2; ++row) {
        for (int pass = 0; pass < inputs / 32; ++pass) {
            Memory memory(weight_cells + planes * STRIP_HALO);
            load_weights(memory, weights, weight_cells);
            for (int plane = 0; plane < planes; ++plane)
                for (int pixel = 0; pixel < STRIP_HALO; ++pixel)
                    for (int k = 0; k < 8; ++k)
                        memory.at(weight_cells + strip_cell(plane, pixel), k) =
                            halo[(row * STRIP_HALO + pixel) * inputs + pass * 32 + plane * 8 + k];
            for (int shift = 0; shift < 3; ++shift)
                for (int pair = 0; pair < planes / 2; ++pair)
                    multiply(d, memory,
                             descriptor(weight_cells + STRIP_PART + strip_cell(2 * pair, shift), STRIP_HALO,
                                        WEIGHT_STRIDE),
                             descriptor(weight_cell(across, all_planes, shift, pass * planes + 2 * pair, 0), across,
                                        WEIGHT_STRIDE));
        }
        for (int thread = 0; thread < 128; ++thread) {
            for (int at = 0; at < sums && row >= 2; ++at) {
                const int pixel = fragment_row(thread / 32, thread % 32, at / 2 % 2);
                const int output = fragment_column(thread % 32, at / 4, at % 2);
                result[((row - 2) * STRIP_PART + pixel) * outputs + output] = d[thread][at];
            }
            for (int at = 0; at < 3 * sums; ++at) d[thread][at] = at < 2 * sums ? d[thread][at + sums] : 0.0f;
        }
    }
}

// Which 8 outputs of which lane a lane holds after the exchange of four: [quarter][word] = 8 * lane's quarter + block.
extern "C" void conv32_exchange(int* result) {
    for (int quarter = 0; quarter < 4; ++quarter)
        for (int distance = 0; distance < 4; ++distance) {
            const int other = quarter ^ distance;
            // the other lane sends its block (its quarter ^ distance), which is this lane's quarter
            result[quarter * 4 + (quarter ^ distance)] = 8 * other + (other ^ distance);
        }
}
