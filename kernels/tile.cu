// One tile, weighted, into its place in the picture:
//
//     out[c, top + y, left + x] = w*tile[c, y, x] + (0 where y >= fresh_row and x >= fresh_column, else what was there)
//     with w = rows[y]*columns[x]
//
// in float32, rounded once when stored. What is fresh was written by no tile before, and is not read: so `out` needs no
// pass that sets it to zero.
//
// Bytes an element, float32: 8 where fresh, 12 elsewhere; half as much for each tensor in half precision. The grid's y is
// the image of the batch; x strides over groups of 16 bytes, of which no one reaches over the end of a tile's row. A tile
// has fewer than 2^32 groups. With PID_VECTOR each row of the tile, where it lies in either tensor, and the weights of the
// columns begin at a multiple of 16 bytes.
#include "common.cuh"

template <int X, int M, bool VECTOR>
PID_DEVICE void pid_tile_body(pid_u32 planes, pid_u32 h, pid_u32 w, const void* tile, const float* rows,
                              const float* columns, void* out, pid_u32 height, pid_u32 width, pid_u32 top, pid_u32 left,
                              pid_u32 fresh_row, pid_u32 fresh_column) {
    constexpr int V = pid_group<X, M>();
    const pid_u32 groups = (w + V - 1) / V;
    const pid_u64 total = (pid_u64)planes * h * groups, stride = (pid_u64)gridDim.x * blockDim.x;
    for (pid_u64 g = (pid_u64)blockIdx.x * blockDim.x + threadIdx.x; g < total; g += stride) {
        const pid_u32 line = (pid_u32)g / groups, first = ((pid_u32)g - line * groups) * V, y = line % h;
        const pid_u64 plane = (pid_u64)blockIdx.y * planes + line / h;
        const pid_u64 to = (plane * height + top + y) * width + left + first;
        const int count = w - first < V ? (int)(w - first) : V;
        float values[V], weights[V], old[V] = {};
        pid_load<M, V, VECTOR>(tile, (plane * h + y) * w + first, count, values);
        pid_load<PID_F32, V, VECTOR>(columns, first, count, weights);
        if (y < fresh_row || first < fresh_column) pid_load<X, V, VECTOR>(out, to, count, old);
        const float row = rows[y];
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const float term = row * weights[j] * values[j];
            values[j] = y >= fresh_row && first + j >= fresh_column ? term : old[j] + term;
        }
        pid_store<X, V, VECTOR>(out, to, count, values);
    }
}

#ifdef PID_X
extern "C" __global__ void __launch_bounds__(256)
    pid_tile(pid_u32 planes, pid_u32 h, pid_u32 w, const void* tile, const float* rows, const float* columns, void* out,
             pid_u32 height, pid_u32 width, pid_u32 top, pid_u32 left, pid_u32 fresh_row, pid_u32 fresh_column) {
    pid_tile_body<PID_X, PID_M, PID_VECTOR>(planes, h, w, tile, rows, columns, out, height, width, top, left, fresh_row,
                                            fresh_column);
}
#endif
