// Gaussian noise as a pure function of (seed, draw, stream, position): Philox4x32-10 and Box-Muller.
//
// The same contract as pidsampler/noise/philox.py: integers are bit-equal to it, normals agree to 4 ulp or 1e-6,
// whichever is larger. nvcc, NVRTC and g++ all accept this header, so its arithmetic is tested without a GPU. Where a
// product and a sum are not contracted, as by g++ in the tests, numpy gives the same bits in float32.
//
// Sources: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11); Box-Muller in cuRAND's convention.
#pragma once

#include "common.cuh"

struct PidWords {
    pid_u32 w[4];
};

// The 64-bit product of two words. Without its own instruction nvcc widens a constant factor, and multiplies 64 bits.
PID_DEVICE pid_u64 pid_product(pid_u32 a, pid_u32 b) {
#ifdef __CUDACC__
    pid_u64 product;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
    return product;
#else
    return (pid_u64)a * b;
#endif
}

// The square root of a normal number. The GPU's own is within 2^-23; a step of Newton's from its inverse root, whose
// residual is exact, rounds nearly as sqrtf does, and has no slow path.
PID_DEVICE float pid_root(float v) {
#ifdef __CUDACC__
    float inverse;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(v));
    const float root = v * inverse;
    return __fmaf_rn(__fmaf_rn(-root, root, v), 0.5f * inverse, root);
#else
    return std::sqrt(v);
#endif
}

PID_DEVICE PidWords pid_philox(pid_u64 q, pid_u32 draw, pid_u32 stream, pid_u64 seed) {
    pid_u32 c0 = (pid_u32)q, c1 = (pid_u32)(q >> 32), c2 = draw, c3 = stream;
    pid_u32 k0 = (pid_u32)seed, k1 = (pid_u32)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const pid_u64 p0 = pid_product(0xD2511F53u, c0), p1 = pid_product(0xCD9E8D57u, c2);
        c0 = (pid_u32)(p1 >> 32) ^ c1 ^ k0;
        c2 = (pid_u32)(p0 >> 32) ^ c3 ^ k1;
        c1 = (pid_u32)p1;
        c3 = (pid_u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// sqrt(-2 ln u) with u = (r + 1/2) * 2^-32 = 2^e * (1 + f), f in -1/3..1/3: one path for all lanes of a warp.
//
// float32 cannot hold u near 1. There, from 2/3 on, e is 0, and f = u - 1 is made from the complement of r.
// -2 ln(1 + f) is f times a polynomial, fitted for the least greatest error relative to ln u, 2.1e-8.
PID_DEVICE float pid_radius(pid_u32 r) {
    const float u = (float)r * 0x1p-32f + 0x1p-33f, below_1 = (float)~r * -0x1p-32f - 0x1p-33f;
    const pid_u32 exponent = (pid_bits(u) - 0x3F2AAAABu) & 0xFF800000u;  // e * 2^23, 0x3F2AAAAB is 2/3
    const float f = exponent ? pid_float(pid_bits(u) - exponent) - 1.0f : below_1;
    float p = -0.299724579f * f + 0.306788713f;
    p = p * f - 0.275270224f;
    p = p * f + 0.328606695f;
    p = p * f - 0.400579661f;
    p = p * f + 0.500129998f;
    p = p * f - 0.666655481f;
    p = p * f + 0.999999464f;
    p = p * f - 2.0f;
    return pid_root((float)(int)exponent * -1.65259166e-7f + p * f);  // -2 ln 2 * 2^-23
}

// Sine and cosine of 2*pi*(r + 1/2) * 2^-32. The nearest quarter turn is taken off as an integer, which is exact: what
// is left are the lower 30 bits, signed, t eighths of a turn, |t| < 1. There two short polynomials hold to 3e-8 of the
// sine and the cosine. No call means no slow path for large angles, and so no local memory on the GPU.
PID_DEVICE void pid_sincos(pid_u32 r, float& sine, float& cosine) {
    const pid_u32 quarters = r + 0x20000000u;  // in the upper two bits
    const float t = (float)(int)(r << 2 | 2u) * 0x1p-31f, t2 = t * t;
    float s = -3.63177714e-5f * t2 + 0.002490649f;
    s = s * t2 - 0.0807457417f;
    s = (s * t2 + 0.785398185f) * t;
    float c = 3.49398124e-6f * t2 - 0.000325868634f;
    c = c * t2 + 0.0158542842f;
    c = c * t2 - 0.308425128f;
    c = c * t2 + 1.0f;
    const bool odd = quarters & 0x40000000u;
    sine = pid_float(pid_bits(odd ? c : s) ^ (quarters & 0x80000000u));
    cosine = pid_float(pid_bits(odd ? s : c) ^ ((quarters + 0x40000000u) & 0x80000000u));
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
