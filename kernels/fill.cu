// x = keep*x + scale*N(seed of the image, draw, stream), in place: the initial noise, and the noise of a latent.
//
// Bytes an element, float32: 4, and 8 with KEEP; half of that in half precision. The grid is that of step.cu.
#include "noise.cuh"

template <int X, bool KEEP, bool VECTOR>
PID_DEVICE void pid_fill_body(pid_u64 n, const pid_u64* seeds, void* x, pid_u32 draw, pid_u32 stream, float keep,
                              float scale) {
    constexpr int V = pid_group<X>();
    const pid_u64 image = (pid_u64)blockIdx.y * n, stride = (pid_u64)gridDim.x * blockDim.x, seed = seeds[blockIdx.y];
    for (pid_u64 g = (pid_u64)blockIdx.x * blockDim.x + threadIdx.x; g * V < n; g += stride) {
        const int count = n - g * V < V ? (int)(n - g * V) : V;
        float xs[V], result[V];
        if (KEEP) pid_load<X, V, VECTOR>(x, image + g * V, count, xs);
#pragma unroll
        for (int part = 0; part < V / 4; ++part) {
            float normals[4];
            pid_normals(g * (V / 4) + part, draw, stream, seed, normals);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const int k = 4 * part + j;
                result[k] = KEEP ? keep * xs[k] + scale * normals[j] : scale * normals[j];
            }
        }
        pid_store<X, V, VECTOR>(x, image + g * V, count, result);
    }
}

#ifdef PID_X
extern "C" __global__ void __launch_bounds__(256)
    pid_fill(pid_u64 n, const pid_u64* seeds, void* x, pid_u32 draw, pid_u32 stream, float keep, float scale) {
    pid_fill_body<PID_X, PID_KEEP, PID_VECTOR>(n, seeds, x, draw, stream, keep, scale);
}
#endif
