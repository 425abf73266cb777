// One consumer of sources/strip.cu on a processor, walking down one strip, with the very index functions that it uses.
#include "strip_layout.cuh"
#include "wgmma_on_cpu.hpp"

// `halo`: (rows + 2, SLOT_PIXELS, INPUTS); `result`: (rows * FINISHED, 64, OUTPUTS), of an enlarged picture only the even or
// odd pixels of a row.
extern "C" void strip_walk(const float* halo, const float* weights, float* result, int rows, int consumer) {
    const int slot_cells = SLOT_BYTES / CELL_BYTES, weight_cells = WEIGHT_BYTES / CELL_BYTES;
    const int first_weight = CHUNKS * slot_cells, parity = ENLARGES ? consumer : 0;
    Registers d(128, std::vector<float>(BLOCKS * SUMS));
    for (int row = 0; row < rows + 2; ++row) {
        Memory memory(first_weight + weight_cells);
        for (int index = 0; index < weight_cells * CELL_CHANNELS; ++index)
            memory.values[first_weight * CELL_CHANNELS + index] = weights[index];
        for (int chunk = 0; chunk < CHUNKS; ++chunk) {
            const unsigned int slot = chunk * SLOT_BYTES;
            for (int pixel = 0; pixel < SLOT_PIXELS; ++pixel)
                for (int plane = 0; plane < SLOT_PLANES; ++plane)
                    for (int k = 0; k < CELL_CHANNELS; ++k) {
                        const int channel = (chunk * SLOT_PLANES + plane) * CELL_CHANNELS + k;
                        memory.at((slot + slot_byte(plane, pixel)) / CELL_BYTES, k) =
                            channel < INPUTS ? halo[(row * SLOT_PIXELS + pixel) * INPUTS + channel] : 0.0f;
                    }
            const int at_once = IS_NARROW ? 2 : 1, pairs = IS_NARROW ? 1 : planes_of(chunk) / 2;
            for (int pair = 0; pair < pairs; ++pair)
                for (int shift = 0; shift < SHIFTS; shift += at_once)
                    multiply(d, memory, pixel_operand(slot, first_pixel(consumer) + shift, pair),
                             descriptor(first_weight + strip_weight_cell(chunk, parity, shift, 2 * pair, 0), COLUMNS,
                                        WEIGHT_STRIDE));
        }
        for (int thread = 0; thread < 128; ++thread) {
            for (int at = 0; at < FINISHED * SUMS; ++at) {
                // enlarged: rows 2 y - 1 and 2 y of output, of the row of input y = row - 1
                const int out = ENLARGES ? 2 * (row - 1) - 1 + at / SUMS : row - 2;
                const int pixel = fragment_row(thread / 32, thread % 32, at / 2 % 2);
                const int output = fragment_column(thread % 32, at % SUMS / 4, at % 2);
                if (out >= 0 && out < rows * FINISHED) result[(out * PART + pixel) * OUTPUTS + output] = d[thread][at];
            }
            for (int at = 0; at < BLOCKS * SUMS; ++at)
                d[thread][at] = at + FINISHED * SUMS < BLOCKS * SUMS ? d[thread][at + FINISHED * SUMS] : 0.0f;
        }
    }
}
