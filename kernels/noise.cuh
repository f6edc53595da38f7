// Gaussian noise as a pure function of (seed, draw, stream, position): Philox4x32-10 and Box-Muller.
//
// The same contract as pidsampler/noise.py: integers are bit-equal to it, normals agree to 4 ulp or 1e-6, whichever
// is larger. nvcc, NVRTC and g++ all accept this header, so its arithmetic is tested without a GPU.
//
// Sources: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11); Box-Muller in cuRAND's convention.
#pragma once

#include "common.cuh"

struct PidWords {
    pid_u32 w[4];
};

PID_DEVICE PidWords pid_philox(pid_u64 q, pid_u32 draw, pid_u32 stream, pid_u64 seed) {
    pid_u32 c0 = (pid_u32)q, c1 = (pid_u32)(q >> 32), c2 = draw, c3 = stream;
    pid_u32 k0 = (pid_u32)seed, k1 = (pid_u32)(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const pid_u64 p0 = (pid_u64)0xD2511F53u * c0, p1 = (pid_u64)0xCD9E8D57u * c2;
        c0 = (pid_u32)(p1 >> 32) ^ c1 ^ k0;
        c2 = (pid_u32)(p0 >> 32) ^ c3 ^ k1;
        c1 = (pid_u32)p1;
        c3 = (pid_u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// sqrt(-2 ln u) with u = (r + 1/2) * 2^-32. float32 cannot hold u near 1, so the upper half goes through 1 - u.
PID_DEVICE float pid_radius(pid_u32 r) {
    const pid_u32 low = r >> 31 ? ~r : r;
    const float w = (float)low * 0x1p-32f + 0x1p-33f;
    return sqrtf(-2.0f * (r >> 31 ? log1pf(-w) : logf(w)));
}

// Sine and cosine of 2*pi*(r + 1/2) * 2^-32. The nearest quarter turn is taken off as an integer, which is exact; what
// is left is at most an eighth of a turn, where Cephes' two short polynomials (S. Moshier, sinf.c) hold to an ulp. No
// call means no slow path for large angles, and so no local memory on the GPU.
PID_DEVICE void pid_sincos(pid_u32 r, float& sine, float& cosine) {
    const pid_u32 quarter = (r + 0x20000000u) >> 30;
    const float turn = (float)(int)(r - (quarter << 30)) * 0x1p-32f + 0x1p-33f;
    const float a = turn * 6.283185307179586f, a2 = a * a;
    const float s = ((-1.9515295891e-4f * a2 + 8.3321608736e-3f) * a2 - 1.6666654611e-1f) * a2 * a + a;
    const float c =
        ((2.443315711809948e-5f * a2 - 1.388731625493765e-3f) * a2 + 4.166664568298827e-2f) * a2 * a2 - 0.5f * a2 + 1.0f;
    sine = quarter & 1 ? c : s;
    cosine = quarter & 1 ? s : c;
    sine = quarter & 2 ? -sine : sine;
    cosine = (quarter + 1) & 2 ? -cosine : cosine;
}

// The four normals of counter q: elements 4q .. 4q + 3.
PID_DEVICE void pid_normals(pid_u64 q, pid_u32 draw, pid_u32 stream, pid_u64 seed, float out[4]) {
    const PidWords r = pid_philox(q, draw, stream, seed);
    for (int j = 0; j < 4; j += 2) {
        float sine, cosine;
        const float radius = pid_radius(r.w[j]);
        pid_sincos(r.w[j + 1], sine, cosine);
        out[j] = radius * sine;
        out[j + 1] = radius * cosine;
    }
}
