// Block means of a picture, and its colour correction, each in one pass over the top left of a tensor (1, 3, H, W).
//
//     v = clip(x, -1, 1);   with CORRECT   x = v = gain*v + s,   s the quadratic spline of a grid;   sums of clip(v, -1, 1)
//
// Block i of an axis of n input pixels is from i*n/g to (i+1)*n/g, times `scale`; at t in 0..1 across it, s is
// ((1-t)^2 g[i-1] + (1 + 2t(1-t)) g[i] + t^2 g[i+1])/2 on each axis. A thread has one column of pixels of one row of
// blocks, so that neighbours read neighbours, and the horizontal half of the spline is made once a thread.
//
// A thread adds its column in float32; columns are added as integers of 2^-32, so that neither their order nor the grid
// matters: 2^31 pixels a block fit. Of what is not finite *bad becomes 1. With POWERS 2 the sums of squares follow.
//
// Bytes an element, float32: 4, and 8 with CORRECT; half of that in half precision.
#include "common.cuh"

#ifdef __CUDACC__
PID_DEVICE void pid_add(pid_u64* sum, pid_u64 term) {
    atomicAdd(reinterpret_cast<unsigned long long*>(sum), (unsigned long long)term);
}
#else
PID_DEVICE void pid_add(pid_u64* sum, pid_u64 term) { *sum += term; }
#endif

PID_DEVICE float pid_clip(float v) { return v < -1.0f ? -1.0f : v > 1.0f ? 1.0f : v; }

// Weights of the block before, of this one, and of the next at pixel p of a block that begins at `start`.
PID_DEVICE void pid_spline(pid_u32 p, pid_u32 start, pid_u32 stop, float (&w)[3]) {
    const float t = ((float)(p - start) + 0.5f) / (float)(stop - start), rest = 1.0f - t;
    w[0] = 0.5f * rest * rest;
    w[1] = 0.5f + t * rest;
    w[2] = 0.5f * t * t;
}

template <int X, bool CORRECT, int POWERS>
PID_DEVICE void pid_colour_body(void* tensor, pid_u32 tensor_height, pid_u32 tensor_width, pid_u32 h, pid_u32 w,
                                pid_u32 scale, pid_u32 rows, pid_u32 columns, const float* grid, float gain0,
                                float gain1, float gain2, pid_u64* sums, pid_u32* bad) {
    typedef PidElement<X> E;
    typename E::type* const x = static_cast<typename E::type*>(tensor);
    const pid_u64 plane = (pid_u64)tensor_height * tensor_width, blocks = (pid_u64)rows * columns;
    const pid_u64 width = (pid_u64)scale * w, stride = (pid_u64)gridDim.x * blockDim.x;
    const float gain[3] = {gain0, gain1, gain2};
    for (pid_u64 i = (pid_u64)blockIdx.x * blockDim.x + threadIdx.x; i < rows * width; i += stride) {
        const pid_u32 px = (pid_u32)(i % width), row = (pid_u32)(i / width);
        const pid_u32 column = (pid_u32)(((pid_u64)(px / scale + 1) * columns - 1) / w);
        const pid_u32 top = (pid_u32)(scale * ((pid_u64)row * h / rows));
        const pid_u32 bottom = (pid_u32)(scale * ((pid_u64)(row + 1) * h / rows));
        float line[3][3];  // of a channel, at this column of pixels, in the rows of blocks above, here and below
        if (CORRECT) {
            float across[3];
            pid_spline(px, (pid_u32)(scale * ((pid_u64)column * w / columns)),
                       (pid_u32)(scale * ((pid_u64)(column + 1) * w / columns)), across);
            const pid_u32 left = column ? column - 1 : 0, right = column + 1 < columns ? column + 1 : column;
            const pid_u32 beside[3] = {row ? row - 1 : 0, row, row + 1 < rows ? row + 1 : row};
#pragma unroll
            for (int c = 0; c < 3; ++c) {
#pragma unroll
                for (int k = 0; k < 3; ++k) {
                    const float* const g = grid + c * blocks + (pid_u64)beside[k] * columns;
                    line[c][k] = across[0] * g[left] + across[1] * g[column] + across[2] * g[right];
                }
            }
        }
        float total[3] = {0.0f, 0.0f, 0.0f}, squares[3] = {0.0f, 0.0f, 0.0f};
        bool finite = true;
        for (pid_u32 y = top; y < bottom; ++y) {
            const pid_u64 at = (pid_u64)y * tensor_width + px;
            float v[3], down[3];
            if (CORRECT) pid_spline(y, top, bottom, down);
#pragma unroll
            for (int c = 0; c < 3; ++c) v[c] = E::load(x[c * plane + at]);  // all before the first is stored
#pragma unroll
            for (int c = 0; c < 3; ++c) {
                finite = finite && (pid_bits(v[c]) & 0x7F800000u) != 0x7F800000u;
                v[c] = pid_clip(v[c]);
                if (CORRECT) {
                    v[c] = gain[c] * v[c] + (down[0] * line[c][0] + down[1] * line[c][1] + down[2] * line[c][2]);
                    const typename E::type stored = E::store(v[c]);
                    x[c * plane + at] = stored;
                    v[c] = pid_clip(E::load(stored));
                }
                total[c] += v[c];
                if (POWERS == 2) squares[c] += v[c] * v[c];
            }
        }
        if (!finite) {
            *bad = 1;
            continue;
        }
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            pid_u64* const sum = sums + c * blocks + (pid_u64)row * columns + column;
            pid_add(sum, (pid_u64)(long long)(total[c] * 0x1p32f));
            if (POWERS == 2) pid_add(sum + 3 * blocks, (pid_u64)(long long)(squares[c] * 0x1p32f));
        }
    }
}

#ifdef PID_X
extern "C" __global__ void __launch_bounds__(256)
    pid_colour(void* tensor, pid_u32 tensor_height, pid_u32 tensor_width, pid_u32 h, pid_u32 w, pid_u32 scale,
               pid_u32 rows, pid_u32 columns, const float* grid, float gain0, float gain1, float gain2, pid_u64* sums,
               pid_u32* bad) {
    pid_colour_body<PID_X, PID_CORRECT, PID_POWERS>(tensor, tensor_height, tensor_width, h, w, scale, rows, columns,
                                                    grid, gain0, gain1, gain2, sums, bad);
}
#endif
