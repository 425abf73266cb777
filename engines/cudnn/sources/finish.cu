// NHWC to planar pictures: pixel shuffle by FACTOR, plus the enlarged input if HAS_BASE. A block takes PIXELS pixels of
// one row of the source through shared memory, so that both what it reads and what it writes is contiguous.
// Needs THREADS, FACTOR, COLOURS, PIXELS, HAS_BASE, IS_HALF (type of the pictures: 1 float16, 0 float32).
#include "platform.cuh"

struct FinishArguments {
    unsigned long long source, image, picture;
    int height, width, pitch, unused;  // of the source; pitch: distance of its pixels in numbers
};

#if IS_HALF
using Pixel = Half;
DEVICE float value_of(Pixel pixel) { return widened(pixel); }
#else
using Pixel = float;
DEVICE float value_of(Pixel pixel) { return pixel; }
#endif

enum {
    VALUES = COLOURS * FACTOR * FACTOR,
    CHUNKS = (VALUES + 7) / 8,          // of 8 numbers, 16 bytes
    STRIDE = CHUNKS * 4 + 2,            // words between pixels in shared memory: not a multiple of the 32 banks
    ROWS = COLOURS * FACTOR,
};

// FACTOR neighbouring numbers of one row of the result.
DEVICE void store_row(Pixel* to, const float (&v)[FACTOR]) {
#if IS_HALF && FACTOR % 2 == 0
    unsigned int words[FACTOR / 2];
    UNROLL
    for (int i = 0; i < FACTOR / 2; ++i)
        words[i] = rounded_to_half(v[2 * i]).bits | (unsigned int)rounded_to_half(v[2 * i + 1]).bits << 16;
    store_words(to, words);
#elif !IS_HALF && (FACTOR == 1 || FACTOR == 2 || FACTOR == 4)
    unsigned int words[FACTOR];
    UNROLL
    for (int i = 0; i < FACTOR; ++i) words[i] = (unsigned int)bits_of(v[i]);
    store_words(to, words);
#else
    UNROLL
    for (int i = 0; i < FACTOR; ++i)
#if IS_HALF
        to[i] = rounded_to_half(v[i]);
#else
        to[i] = v[i];
#endif
#endif
}

KERNEL(finish, FinishArguments) {
    SHARED unsigned int pixels[PIXELS * STRIDE];
    const int start = BLOCK_X * PIXELS, y = BLOCK_Y, n = BLOCK_Z;
    const int count = a.width - start < PIXELS ? a.width - start : PIXELS;
    EACH_THREAD {
        const Half* source = (const Half*)a.source + (((long long)n * a.height + y) * a.width + start) * a.pitch;
        for (int item = thread; item < count * CHUNKS; item += THREADS) {
            const int pixel = item / CHUNKS, chunk = item % CHUNKS;
            const unsigned int* from = (const unsigned int*)(source + (long long)pixel * a.pitch + chunk * 8);
            UNROLL
            for (int word = 0; word < 4; ++word) pixels[pixel * STRIDE + chunk * 4 + word] = from[word];
        }
    }
    SYNCHRONIZE;
    EACH_THREAD {
        const Pixel* image = (const Pixel*)a.image;
        for (int item = thread; item < PIXELS * ROWS; item += THREADS) {
            const int pixel = item % PIXELS, line = item / PIXELS, colour = line / FACTOR, row = line % FACTOR;
            if (pixel < count) {
                const Half* from = (const Half*)(pixels + pixel * STRIDE) + line * FACTOR;
                float base = 0.0f;
                if (HAS_BASE)
                    base = value_of(image[(((long long)n * COLOURS + colour) * a.height + y) * a.width + start + pixel]);
                float values[FACTOR];
                UNROLL
                for (int column = 0; column < FACTOR; ++column) values[column] = widened(from[column]) + base;
                const long long line_of_result = ((long long)n * COLOURS + colour) * a.height * FACTOR + y * FACTOR + row;
                store_row((Pixel*)a.picture + (line_of_result * a.width + start + pixel) * FACTOR, values);
            }
        }
    }
}
