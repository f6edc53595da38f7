// Antialiased reduction of a picture (3, H, W), which may be padded below and at the right, to (3, h, w):
//
//     to[c][y][x] = sum_j down[j][y] * sum_k across[k][x] * from[c][rows[y] + j][columns[x] + k]
//
// in float32, rounded once when stored. One thread an output pixel, striding over all of them. The tables are made on the
// host (pidsampler/backends/lanczos.py), and their elements all lie inside the picture.
//
// Both axes in one pass: there is no memory between them, and as a Lanczos-3 filter is 6 output pixels wide, each input
// element is read 36 times whatever the factor, from the caches. Bytes from memory, float32: 12*(H*W + h*w) + the tables.
#include "common.cuh"

template <int X>
PID_DEVICE void pid_reduce_body(const void* from, void* to, const pid_u32* rows, const float* down, pid_u32 row_taps,
                                const pid_u32* columns, const float* across, pid_u32 column_taps, pid_u32 height,
                                pid_u32 width, pid_u32 new_height, pid_u32 new_width) {
    typedef typename PidElement<X>::type E;
    const pid_u64 plane = (pid_u64)height * width, size = (pid_u64)new_height * new_width;
    const pid_u64 stride = (pid_u64)gridDim.x * blockDim.x;
    for (pid_u64 i = (pid_u64)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += stride) {
        const pid_u32 y = (pid_u32)(i / new_width), x = (pid_u32)(i % new_width);
        const E* corner = static_cast<const E*>(from) + (pid_u64)rows[y] * width + columns[x];
        float total[3] = {0.0f, 0.0f, 0.0f};
        for (pid_u32 j = 0; j < row_taps; ++j) {
            const E* line = corner + (pid_u64)j * width;
            float sum[3] = {0.0f, 0.0f, 0.0f};
            for (pid_u32 k = 0; k < column_taps; ++k) {
                const float weight = across[(pid_u64)k * new_width + x];
#pragma unroll
                for (int c = 0; c < 3; ++c) sum[c] += weight * PidElement<X>::load(line[c * plane + k]);
            }
            const float weight = down[(pid_u64)j * new_height + y];
#pragma unroll
            for (int c = 0; c < 3; ++c) total[c] += weight * sum[c];
        }
#pragma unroll
        for (int c = 0; c < 3; ++c) static_cast<E*>(to)[c * size + i] = PidElement<X>::store(total[c]);
    }
}

#ifdef PID_X
extern "C" __global__ void __launch_bounds__(256)
    pid_reduce(const void* from, void* to, const pid_u32* rows, const float* down, pid_u32 row_taps,
               const pid_u32* columns, const float* across, pid_u32 column_taps, pid_u32 height, pid_u32 width,
               pid_u32 new_height, pid_u32 new_width) {
    pid_reduce_body<PID_X>(from, to, rows, down, row_taps, columns, across, column_taps, height, width, new_height,
                           new_width);
}
#endif
