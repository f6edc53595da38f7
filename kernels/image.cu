// Pictures to tensors and back. One thread a pixel, striding over all of them.
//
// pid_to_tensor: uint8 or uint16 (h, w, C), C = 3 or 4, of which the first three are RGB or BGR, to (3, H, W) of any
// element type: v*2/most - 1, where rows and columns past the picture's are read back in reverse (numpy's "reflect").
// pid_to_image: (3, H, W) to uint8 (h, w, 3): v*127.5 + 127.5, clamped, rounded to the even one of two as near, cropped.
// Where a value is not finite it sets *bad to 1: the caller reads that word once, with the picture.
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

template <bool BGR, int X>
PID_DEVICE void pid_to_image_body(const void* tensor, pid_u8* image, pid_u32 h, pid_u32 w, pid_u32 height,
                                  pid_u32 width, pid_u32* bad) {
    typedef typename PidElement<X>::type E;
    const pid_u64 plane = (pid_u64)height * width, stride = (pid_u64)gridDim.x * blockDim.x;
    for (pid_u64 i = (pid_u64)blockIdx.x * blockDim.x + threadIdx.x; i < (pid_u64)h * w; i += stride) {
        const pid_u64 at = i / w * width + i % w;
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const float v = PidElement<X>::load(static_cast<const E*>(tensor)[c * plane + at]);
            if ((pid_bits(v) & 0x7F800000u) == 0x7F800000u) *bad = 1;
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
                 pid_u32* bad) {
    pid_to_image_body<PID_BGR, PID_X>(tensor, image, h, w, height, width, bad);
}
#endif
