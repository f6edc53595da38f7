// Pictures to tensors and back. One thread a pixel, striding over all of them.
//
// pid_to_tensor: uint8 or uint16 (h, w, C), C = 3 or 4, of which the first three are RGB or BGR, to (3, H, W) of any
// element type: v*2/most - 1, where rows and columns past the picture's are read back in reverse (numpy's "reflect").
// pid_to_image: (3, H, W) to uint8 (h, w, 3): v*127.5 + 127.5, clamped, rounded to the even one of two as near, cropped.
// Where a value is not finite it sets *bad to 1: the caller reads that word once, with the picture. With DESPECKLE a
// value that stands out by more than `step` above both the brim, the outermost pixels of the 9x9 around in its channel,
// and its runs, the lowest of each straight five pixels that it is in, becomes the highest of those; below, likewise.
// A side of the picture has at least 8 pixels then, so that every pixel has a brim, which parts `high` from `low`.
// The 64 reads of a channel are neighbours' own, and so in the cache.
#include "common.cuh"

// The place that index i of a reflected axis of `size` reads: 0 1 2 1 0 1 2 for size 3.
PID_DEVICE pid_u32 pid_reflected(pid_u32 i, pid_u32 size) {
    if (i < size || size == 1) return size == 1 ? 0 : i;
    const pid_u32 period = 2 * (size - 1), k = i % period;
    return k < size ? k : period - k;
}

template <typename T, int C, bool BGR, int X>
PID_DEVICE void pid_to_tensor_body(const T* image, void* tensor, pid_u32 h, pid_u32 w, pid_u32 height, pid_u32 width) {
    typedef typename PidElement<X>::type E;
    const pid_u64 plane = (pid_u64)height * width, stride = (pid_u64)gridDim.x * blockDim.x;
    const float scale = 2.0f / (float)(T)~(T)0;
    for (pid_u64 i = (pid_u64)blockIdx.x * blockDim.x + threadIdx.x; i < plane; i += stride) {
        const pid_u32 y = pid_reflected((pid_u32)(i / width), h), x = pid_reflected((pid_u32)(i % width), w);
        const T* pixel = image + ((pid_u64)y * w + x) * C;
#pragma unroll
        for (int c = 0; c < 3; ++c)
            static_cast<E*>(tensor)[c * plane + i] = PidElement<X>::store((float)pixel[BGR ? 2 - c : c] * scale - 1.0f);
    }
}

#define PID_BRIM 4  // as in backends/__init__.py

// The value at (y, x) of one channel of a picture (h, w), clamped to -1..1; `outside` where the picture has none.
template <int X>
PID_DEVICE float pid_shown(const typename PidElement<X>::type* plane, pid_u32 y, pid_u32 x, pid_u32 h, pid_u32 w,
                           pid_u32 width, float outside) {
    if (y >= h || x >= w) return outside;  // what is before the first is far past the end
    const float v = PidElement<X>::load(plane[(pid_u64)y * width + x]);
    return v > 1.0f ? 1.0f : v < -1.0f ? -1.0f : v;
}

template <int X>
PID_DEVICE float pid_despeckled(const typename PidElement<X>::type* plane, pid_u32 y, pid_u32 x, pid_u32 h, pid_u32 w,
                                pid_u32 width, float step) {
    const float none = 4.0f, v = pid_shown<X>(plane, y, x, h, w, width, none);  // farther than any value
    float high = -none, low = none;
    for (int k = -PID_BRIM; k < PID_BRIM; ++k) {  // of each side all but its end, which begins the next
        const int down[4] = {-PID_BRIM, k, PID_BRIM, -k}, across[4] = {k, PID_BRIM, -k, -PID_BRIM};
#pragma unroll
        for (int side = 0; side < 4; ++side) {
            const float there = pid_shown<X>(plane, y + (pid_u32)down[side], x + (pid_u32)across[side], h, w, width, none);
            if (there == none) continue;
            high = there > high ? there : high;
            low = there < low ? there : low;
        }
    }
    for (int direction = 0; direction < 4; ++direction) {
        const int dy = direction > 0, dx = direction == 1 ? 0 : direction == 3 ? -1 : 1;
        float least[2][PID_BRIM + 1], most[2][PID_BRIM + 1];  // of v and the next k pixels, either way
#pragma unroll
        for (int way = 0; way < 2; ++way) {
            least[way][0] = most[way][0] = v;
#pragma unroll
            for (int k = 1; k <= PID_BRIM; ++k) {
                const int n = way ? -k : k;
                const float there = pid_shown<X>(plane, y + (pid_u32)(n * dy), x + (pid_u32)(n * dx), h, w, width, none);
                const bool out = there == none;  // and so is all behind
                least[way][k] = out ? -none : there < least[way][k - 1] ? there : least[way][k - 1];
                most[way][k] = out ? none : there > most[way][k - 1] ? there : most[way][k - 1];
            }
        }
#pragma unroll
        for (int k = 0; k <= PID_BRIM; ++k) {
            const float a = least[0][k], b = least[1][PID_BRIM - k], c = most[0][k], d = most[1][PID_BRIM - k];
            const float lowest = a < b ? a : b, highest = c > d ? c : d;
            high = lowest > high ? lowest : high;
            low = highest < low ? highest : low;
        }
    }
    return v > high + step ? high : v < low - step ? low : v;
}

template <bool BGR, int X, bool DESPECKLE = false>
PID_DEVICE void pid_to_image_body(const void* tensor, pid_u8* image, pid_u32 h, pid_u32 w, pid_u32 height,
                                  pid_u32 width, pid_u32* bad, float step = 0.0f) {
    typedef typename PidElement<X>::type E;
    const pid_u64 plane = (pid_u64)height * width, stride = (pid_u64)gridDim.x * blockDim.x;
    for (pid_u64 i = (pid_u64)blockIdx.x * blockDim.x + threadIdx.x; i < (pid_u64)h * w; i += stride) {
        const pid_u64 at = i / w * width + i % w;
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const E* const values = static_cast<const E*>(tensor) + c * plane;
            float v = PidElement<X>::load(values[at]);
            if ((pid_bits(v) & 0x7F800000u) == 0x7F800000u) *bad = 1;
            if (DESPECKLE) v = pid_despeckled<X>(values, (pid_u32)(i / w), (pid_u32)(i % w), h, w, width, step);
            const float scaled = rintf(v * 127.5f + 127.5f);
            image[3 * i + (BGR ? 2 - c : c)] = (pid_u8)(scaled > 255.0f ? 255.0f : scaled > 0.0f ? scaled : 0.0f);
        }
    }
}

#ifdef PID_PIXEL  // pid_u8 or pid_u16
extern "C" __global__ void __launch_bounds__(256)
    pid_to_tensor(const PID_PIXEL* image, void* tensor, pid_u32 h, pid_u32 w, pid_u32 height, pid_u32 width) {
    pid_to_tensor_body<PID_PIXEL, PID_CHANNELS, PID_BGR, PID_X>(image, tensor, h, w, height, width);
}
extern "C" __global__ void __launch_bounds__(256)
    pid_to_image(const void* tensor, pid_u8* image, pid_u32 h, pid_u32 w, pid_u32 height, pid_u32 width,
                 pid_u32* bad, float step) {
    pid_to_image_body<PID_BGR, PID_X, PID_DESPECKLE>(tensor, image, h, w, height, width, bad, step);
}
#endif
