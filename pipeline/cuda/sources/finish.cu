// R'G'B' to integer planes, as pipeline.cpu.to_codes does it, after the second half of a change of size if there is one.
// Reads each pixel once (and a border around each block's own), writes each sample once.
//
// A block makes OWN_WIDTH x OWN_HEIGHT luma samples. Their chroma reaches 5 samples before and 6 behind: rows and columns
// outside the picture repeat its edge.
//
// Given when compiling: IMAGE (type of the input), TARGET (type of a sample), RESAMPLED, CURVE, INTERLEAVED,
// HALVED_ROWS, HALVED_COLUMNS, IS_RGB, DITHERED.
#include <curves.cuh>
#include <arguments.cuh>

#define OWN_WIDTH 64
#define OWN_HEIGHT 32
#define TAPS 12
#define BEFORE 5
#define LEFT (HALVED_COLUMNS ? 8 : 0)  // at least 5, and a multiple of 4, so that groups of four stay aligned
#define TOP (HALVED_ROWS ? BEFORE : 0)
#define READ_WIDTH (OWN_WIDTH + 2 * LEFT)
#define READ_HEIGHT (OWN_HEIGHT + (HALVED_ROWS ? TAPS - 1 : 0))
#define CHROMA_WIDTH (HALVED_COLUMNS ? OWN_WIDTH / 2 : OWN_WIDTH)
#define CHROMA_HEIGHT (HALVED_ROWS ? OWN_HEIGHT / 2 : OWN_HEIGHT)

DEVICE void load_plane(const FinishArguments& a, int plane, int x, int y, float (&out)[4]) {
    const IMAGE* row = (const IMAGE*)a.image + plane * a.image_plane + y * a.image_pitch;
    if (RESAMPLED) {
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        int columns[4], first[4];
        UNROLL
        for (int j = 0; j < 4; ++j) {
            columns[j] = clamped(x + j, a.width);
            first[j] = ((const int*)a.first)[columns[j]];
        }
        for (int tap = 0; tap < a.taps; ++tap) {
            const float* weights = (const float*)a.weights + (long long)tap * a.width;
            UNROLL
            for (int j = 0; j < 4; ++j) sum[j] += weights[columns[j]] * widened(row[first[j] + tap]);
        }
        UNROLL
        for (int j = 0; j < 4; ++j) out[j] = encoded(sum[j], a.curve);
        return;
    }
    IMAGE items[4];
    if (x >= 0 && x + 4 <= a.width) {
        load_four(row + x, 4, items);
    } else {
        UNROLL
        for (int j = 0; j < 4; ++j) items[j] = row[clamped(x + j, a.width)];
    }
    UNROLL
    for (int j = 0; j < 4; ++j) out[j] = widened(items[j]);
}

DEVICE float threshold_at(const FinishArguments& a, int x, int y) {
    return DITHERED ? ((const float*)a.thresholds)[(y & 7) * 8 + (x & 7)] : 0.5f;
}

DEVICE TARGET code_of(const FinishArguments& a, float value, int x, int y) {
    float code = value + threshold_at(a, x, y);
    const float top = a.highest + 0.5f;
    code = code > 0.0f ? code : 0.0f;  // also what NaN becomes
    code = code < top ? code : top;
    return TARGET(int(code) << a.shift);
}

KERNEL(finish, FinishArguments) {
    // In codes, chroma without its offset: for every pixel read, and halved along the columns.
    SHARED float wide[2][READ_HEIGHT][READ_WIDTH];
    SHARED float narrow[2][HALVED_COLUMNS ? READ_HEIGHT : 1][CHROMA_WIDTH];
    SHARED TARGET luma[OWN_HEIGHT][OWN_WIDTH];
    const int left = BLOCK_X * OWN_WIDTH;
    const int top = BLOCK_Y * OWN_HEIGHT;

    EACH_THREAD {
        for (int item = thread; item < READ_HEIGHT * (READ_WIDTH / 4); item += THREADS) {
            const int row = item / (READ_WIDTH / 4);
            const int column = item % (READ_WIDTH / 4) * 4;
            const int x = left + column - LEFT;
            const int y = top + row - TOP;
            const int source_y = clamped(y, a.height);
            float red[4], green[4], blue[4];
            load_plane(a, 0, x, source_y, red);
            load_plane(a, 1, x, source_y, green);
            load_plane(a, 2, x, source_y, blue);
            const bool is_own = column >= LEFT && column < LEFT + OWN_WIDTH && row >= TOP && row < TOP + OWN_HEIGHT;
            UNROLL
            for (int j = 0; j < 4; ++j) {
                const float grey =
                    IS_RGB ? red[j] : a.matrix[0] * red[j] + a.matrix[1] * green[j] + a.matrix[2] * blue[j];
                if (is_own) {
                    const float value = grey * a.matrix[3] + a.matrix[4];
                    luma[row - TOP][column - LEFT + j] = code_of(a, value, x + j, y);
                }
                wide[0][row][column + j] = IS_RGB ? green[j] * a.matrix[3] : (blue[j] - grey) * a.matrix[5];
                wide[1][row][column + j] = IS_RGB ? blue[j] * a.matrix[3] : (red[j] - grey) * a.matrix[6];
            }
        }
    }
    SYNCHRONIZE;
    EACH_THREAD {
        for (int item = thread; HALVED_COLUMNS && item < 2 * READ_HEIGHT * CHROMA_WIDTH; item += THREADS) {
            const int column = item % CHROMA_WIDTH;
            const int row = item / CHROMA_WIDTH % READ_HEIGHT;
            const int plane = item / (CHROMA_WIDTH * READ_HEIGHT);
            const float* from = &wide[plane][row][2 * column + LEFT - BEFORE];
            float sum = 0.0f;
            UNROLL
            for (int tap = 0; tap < TAPS; ++tap) sum += a.column_taps[tap] * from[tap];
            narrow[plane][row][column] = sum;
        }
        for (int item = thread; item < OWN_HEIGHT * (OWN_WIDTH / 4); item += THREADS) {
            const int row = item / (OWN_WIDTH / 4);
            const int column = item % (OWN_WIDTH / 4) * 4;
            if (top + row < a.height && left + column < a.width) {
                TARGET codes[4];
                UNROLL
                for (int j = 0; j < 4; ++j) codes[j] = luma[row][column + j];
                TARGET* to = row_of<TARGET>(a.luma, a.luma_pitch, top + row) + left + column;
                store_four(to, a.width - left - column, codes);
            }
        }
    }
    SYNCHRONIZE;
    EACH_THREAD {
        for (int item = thread; item < CHROMA_HEIGHT * (CHROMA_WIDTH / 4); item += THREADS) {
            const int row = item / (CHROMA_WIDTH / 4);
            const int column = item % (CHROMA_WIDTH / 4) * 4;
            const int y = BLOCK_Y * CHROMA_HEIGHT + row;
            const int x = BLOCK_X * CHROMA_WIDTH + column;
            if (y < a.chroma_rows && x < a.chroma_columns) {
                TARGET codes[2][4];
                UNROLL
                for (int plane = 0; plane < 2; ++plane) {
                    UNROLL
                    for (int j = 0; j < 4; ++j) {
                        float sum = 0.0f;
                        UNROLL
                        for (int tap = 0; tap < (HALVED_ROWS ? TAPS : 1); ++tap) {
                            const int at = HALVED_ROWS ? 2 * row + tap : row;
                            const float value =
                                HALVED_COLUMNS ? narrow[plane][at][column + j] : wide[plane][at][column + j];
                            sum += (HALVED_ROWS ? a.row_taps[tap] : 1.0f) * value;
                        }
                        codes[plane][j] = code_of(a, sum + a.matrix[7], x + j, y);
                    }
                }
                const int count = a.chroma_columns - x;
                TARGET* to = row_of<TARGET>(a.blue, a.blue_pitch, y) + (INTERLEAVED ? 2 * x : x);
                if (INTERLEAVED) {
                    const TARGET front[4] = {codes[0][0], codes[1][0], codes[0][1], codes[1][1]};
                    const TARGET back[4] = {codes[0][2], codes[1][2], codes[0][3], codes[1][3]};
                    store_four(to, 2 * count, front);
                    store_four(to + 4, 2 * count - 4, back);
                } else {
                    store_four(to, count, codes[0]);
                    store_four(row_of<TARGET>(a.red, a.red_pitch, y) + x, count, codes[1]);
                }
            }
        }
    }
}
