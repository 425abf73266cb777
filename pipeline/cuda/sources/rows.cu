// The first half of a change of size: every output row from several input rows, in light if a curve is given. The
// columns follow in finish.cu. As pipeline.cpu.separable does it.
//
// Given when compiling: IMAGE (type of the input), CURVE.
#include <curves.cuh>
#include <arguments.cuh>

#define GROUPS_X 64  // four columns each
#define ROWS_Y (THREADS / GROUPS_X)

KERNEL(rows, RowArguments) {
    EACH_THREAD {
        const int x = (BLOCK_X * GROUPS_X + thread % GROUPS_X) * 4;
        const int y = BLOCK_Y * ROWS_Y + thread / GROUPS_X;
        if (x < a.width && y < a.out_height) {
            const int count = least(4, a.width - x);
            const float* weights = (const float*)a.weights + (long long)y * a.taps;
            const IMAGE* from = (const IMAGE*)a.image + BLOCK_Z * a.image_plane +
                                ((const int*)a.first)[y] * a.image_pitch + x;
            float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            for (int tap = 0; tap < a.taps; ++tap) {
                IMAGE items[4] = {};
                load(from + tap * a.image_pitch, count, items);
                const float weight = weights[tap];
                UNROLL
                for (int j = 0; j < 4; ++j) sum[j] += weight * decoded(widened(items[j]), a.curve);
            }
            store((float*)a.out + BLOCK_Z * a.out_plane + y * a.out_pitch + x, count, sum);
        }
    }
}
