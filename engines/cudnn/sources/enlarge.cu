// Repeats every pixel FACTOR x FACTOR times, in NHWC. One thread copies 8 channels of one pixel of the result.
// Needs THREADS, FACTOR, CHANNELS (a multiple of 8).
#include "platform.cuh"

struct EnlargeArguments {
    unsigned long long source, target;
    int height, width;                // of the result
    int source_pitch, target_pitch;   // distance of pixels in numbers
};

KERNEL(enlarge, EnlargeArguments) {
    EACH_THREAD {
        const int item = BLOCK_X * THREADS + thread, y = BLOCK_Y, n = BLOCK_Z;
        const int x = item / (CHANNELS / 8), chunk = item % (CHANNELS / 8);
        if (x < a.width) {
            const long long from = ((long long)n * (a.height / FACTOR) + y / FACTOR) * (a.width / FACTOR) + x / FACTOR;
            const long long to = ((long long)n * a.height + y) * a.width + x;
            const unsigned int* source = (const unsigned int*)((const Half*)a.source + from * a.source_pitch + chunk * 8);
            const unsigned int words[4] = {source[0], source[1], source[2], source[3]};
            store_words((Half*)a.target + to * a.target_pitch + chunk * 8, words);
        }
    }
}
