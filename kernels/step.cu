// One row of a table in one pass over the image:
//
//     x0 = clip(p*x + q*m)
//     x  = a*x + b*x0 + sum_k h[k]*S[k] + sum_d c[d]*N(draw[d]), and likewise each tensor that the row saves
//
// in float32, rounded once when stored. N is made in registers. Each element is read and written by one thread, all its
// reads before its writes, so x, the saved tensors read and those written may be the same memory, element for element.
//
// Bytes an element, float32: 12 (x and m in, x out), and 4 for each saved tensor read or written; 2 in half precision.
// The grid's y is the image of the batch; x strides over its elements in groups of 16 bytes. A result does not depend
// on the grid. With PID_VECTOR each image of each tensor begins at a multiple of 16 bytes.
#include "noise.cuh"

#define PID_MOST_SLOTS 6  // saved tensors that a row reads, and that it writes
#define PID_MOST_DRAWS 128
#define PID_MOST_WEIGHTS 512  // of draws, so that a launch's parameters stay below 4096 bytes

template <int SLOTS, int SAVES, int DRAWS>
struct PidRow {  // of 4-byte members only, so that it has no padding
    static constexpr int MOST = PID_MOST_WEIGHTS / (1 + SAVES), ANY = MOST < PID_MOST_DRAWS ? MOST : PID_MOST_DRAWS;
    static constexpr int HELD = DRAWS < 0 ? ANY : DRAWS > 0 ? DRAWS : 1;
    float p, q, clip;
    float a[1 + SAVES], b[1 + SAVES], h[1 + SAVES][SLOTS > 0 ? SLOTS : 1];
    pid_u32 draws;  // how many of the next are used, where DRAWS is -1
    pid_u32 draw[HELD];
    float c[1 + SAVES][HELD];
};

template <int X, int M, bool READS_X, bool CLIP, int SLOTS, int SAVES, int DRAWS, int CAST, bool VECTOR>
PID_DEVICE void pid_step_body(pid_u64 n, const pid_u64* seeds, const void* x, const void* m,
                              const void* const (&from)[PID_MOST_SLOTS], void* out, void* const (&to)[PID_MOST_SLOTS],
                              void* cast, const PidRow<SLOTS, SAVES, DRAWS>& row) {
    constexpr int V = SLOTS > 3 || SAVES > 3 ? 4 : pid_group<X, M, CAST>();  // eight of so many take too many registers
    const pid_u64 image = (pid_u64)blockIdx.y * n, stride = (pid_u64)gridDim.x * blockDim.x;
    const pid_u64 seed = DRAWS != 0 ? seeds[blockIdx.y] : 0;
    for (pid_u64 g = (pid_u64)blockIdx.x * blockDim.x + threadIdx.x; g * V < n; g += stride) {
        const int count = n - g * V < V ? (int)(n - g * V) : V;
        const pid_u64 i = image + g * V;
        float xs[V], x0[V], s[SLOTS > 0 ? SLOTS : 1][V], result[1 + SAVES][V];
        pid_load<M, V, VECTOR>(m, i, count, x0);
        if (READS_X) pid_load<X, V, VECTOR>(x, i, count, xs);
#pragma unroll
        for (int k = 0; k < SLOTS; ++k) pid_load<X, V, VECTOR>(from[k], i, count, s[k]);
#pragma unroll
        for (int j = 0; j < V; ++j) {
            x0[j] = READS_X ? row.q * x0[j] + row.p * xs[j] : row.q * x0[j];
            if (CLIP) {  // NaN stays
                x0[j] = x0[j] > row.clip ? row.clip : x0[j];
                x0[j] = x0[j] < -row.clip ? -row.clip : x0[j];
            }
#pragma unroll
            for (int r = 0; r <= SAVES; ++r) {
                float total = row.b[r] * x0[j];
                if (READS_X) total += row.a[r] * xs[j];
#pragma unroll
                for (int k = 0; k < SLOTS; ++k) total += row.h[r][k] * s[k][j];
                result[r][j] = total;
            }
        }
        const int draws = DRAWS < 0 ? (int)row.draws : DRAWS;
#pragma unroll(DRAWS == 2 ? 2 : 1)  // three at once take more than 64 registers
        for (int d = 0; d < draws; ++d) {
#pragma unroll
            for (int part = 0; part < V / 4; ++part) {
                float normals[4];
                pid_normals(g * (V / 4) + part, row.draw[d], 0, seed, normals);
#pragma unroll
                for (int r = 0; r <= SAVES; ++r) {
#pragma unroll
                    for (int j = 0; j < 4; ++j) result[r][4 * part + j] += row.c[r][d] * normals[j];
                }
            }
        }
        pid_store<X, V, VECTOR>(out, i, count, result[0]);
        if (CAST >= 0) pid_store<CAST < 0 ? PID_F32 : CAST, V, VECTOR>(cast, i, count, result[0]);
#pragma unroll
        for (int k = 0; k < SAVES; ++k) pid_store<X, V, VECTOR>(to[k], i, count, result[1 + k]);
    }
}

#ifdef PID_X  // compiled for one variant
extern "C" __global__ void __launch_bounds__(256)
    pid_step(pid_u64 n, const pid_u64* seeds, const void* x, const void* m, const void* from0, const void* from1,
             const void* from2, const void* from3, const void* from4, const void* from5, void* out, void* to0,
             void* to1, void* to2, void* to3, void* to4, void* to5, void* cast,
             PidRow<PID_SLOTS, PID_SAVES, PID_DRAWS> row) {
    const void* const from[PID_MOST_SLOTS] = {from0, from1, from2, from3, from4, from5};
    void* const to[PID_MOST_SLOTS] = {to0, to1, to2, to3, to4, to5};
    pid_step_body<PID_X, PID_M, PID_READS_X, PID_CLIP, PID_SLOTS, PID_SAVES, PID_DRAWS, PID_CAST, PID_VECTOR>(
        n, seeds, x, m, from, out, to, cast, row);
}
#endif
