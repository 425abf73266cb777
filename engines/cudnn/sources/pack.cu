// Planar pictures to NHWC: pixel unshuffle by FACTOR, the same channels again with what rounding to float16 left of each
// value, then zeros up to CHANNELS.
// Needs THREADS, FACTOR, COLOURS, CHANNELS (a multiple of 8), IS_HALF (type of the picture: 1 float16, 0 float32).
#include "platform.cuh"

struct PackArguments {
    unsigned long long image, target;  // (N, COLOURS, FACTOR*height, FACTOR*width); N pictures of rows of pixels
    int height, width, pitch, unused;  // pitch: distance of target pixels in numbers
};

#if IS_HALF
using Pixel = Half;
DEVICE float value_of(Pixel pixel) { return widened(pixel); }
#else
using Pixel = float;
DEVICE float value_of(Pixel pixel) { return pixel; }
#endif

enum { VALUES = COLOURS * FACTOR * FACTOR };

KERNEL(pack, PackArguments) {
    EACH_THREAD {
        const int x = BLOCK_X * THREADS + thread, y = BLOCK_Y, n = BLOCK_Z;
        if (x < a.width) {
            const Pixel* image = (const Pixel*)a.image;
            Half* target = (Half*)a.target + (((long long)n * a.height + y) * a.width + x) * a.pitch;
            const long long plane = (long long)a.height * a.width * (FACTOR * FACTOR);
            UNROLL
            for (int first = 0; first < CHANNELS; first += 8) {
                unsigned int words[4];
                UNROLL
                for (int word = 0; word < 4; ++word) {
                    unsigned int bits[2];
                    UNROLL
                    for (int part = 0; part < 2; ++part) {
                        const int number = first + 2 * word + part;
                        const int channel = number % VALUES;
                        const int colour = channel / (FACTOR * FACTOR), row = channel / FACTOR % FACTOR;
                        const int column = channel % FACTOR;
                        const long long at = (long long)(y * FACTOR + row) * a.width * FACTOR + x * FACTOR + column;
                        bits[part] = 0;
                        if (number < 2 * VALUES) {
                            const float value = value_of(image[(n * COLOURS + colour) * plane + at]);
                            const Half nearest = rounded_to_half(value);
                            bits[part] = number < VALUES ? nearest.bits : rounded_to_half(value - widened(nearest)).bits;
                        }
                    }
                    words[word] = bits[0] | bits[1] << 16;
                }
                store_words(target + first, words);
            }
        }
    }
}
