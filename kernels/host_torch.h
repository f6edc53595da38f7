// PyTorch's noise on the CPU, a part of host.c: the same bits as numpy's form, which is pidsampler/noise/torch.py. All
// sources are named there.
#define PID_WORDS 624  // of the Mersenne Twister's state, which makes as many numbers of 32 bits at a time
#define PID_GROUPS 64  // of 16 values at a time, which stay in the first-level cache

// MT19937 (Matsumoto and Nishimura 1998): the next state.
static void pid_twist(uint32_t *word) {
#define PID_TWISTED(k, next, far) \
    (word[far] ^ ((word[k] & 0x80000000u) | (word[next] & 0x7FFFFFFFu)) >> 1 ^ (-(word[next] & 1u) & 0x9908B0DFu))
    for (int k = 0; k < 227; ++k) word[k] = PID_TWISTED(k, k + 1, k + 397);
    for (int k = 227; k < 623; ++k) word[k] = PID_TWISTED(k, k + 1, k - 227);
    word[623] = PID_TWISTED(623, 0, 396);
#undef PID_TWISTED
}

typedef struct {
    uint32_t word[PID_WORDS];
    float uniform[PID_WORDS];  // of 24 bits, in 0 <= u < 1
    uint32_t used;             // of `uniform`
} PidTwister;

static void pid_uniforms(PidTwister *state) {
    pid_twist(state->word);
    state->used = 0;
    for (int k = 0; k < PID_WORDS; ++k) {
        uint32_t y = state->word[k];
        y ^= y >> 11;
        y ^= y << 7 & 0x9D2C5680u;
        y ^= y << 15 & 0xEFC60000u;
        state->uniform[k] = (float)(int32_t)((y ^ y >> 18) & 0xFFFFFFu) * 0x1p-24f;
    }
}

static void pid_seed(PidTwister *state, uint32_t seed, uint64_t skipped) {
    state->word[0] = seed;
    for (uint32_t k = 1; k < PID_WORDS; ++k)
        state->word[k] = 1812433253u * (state->word[k - 1] ^ state->word[k - 1] >> 30) + k;
    for (; skipped >= PID_WORDS; skipped -= PID_WORDS) pid_twist(state->word);
    pid_uniforms(state);
    state->used = (uint32_t)skipped;
}

static void pid_take(PidTwister *state, float *u, uint32_t count) {
    while (count) {
        if (state->used == PID_WORDS) pid_uniforms(state);
        const uint32_t left = PID_WORDS - state->used, n = count < left ? count : left;
        memcpy(u, state->uniform + state->used, n * sizeof(float));
        state->used += n;
        u += n;
        count -= n;
    }
}

#define PID_FMA(a, b, c) __builtin_fmaf(a, b, c)

// Natural logarithm of x in (0, 1].
static inline float pid_log(float x) {
    union { float f; uint32_t u; int32_t i; } bits = {x};
    const int32_t exponent = (bits.i >> 23) - 126;
    bits.u = (bits.u & 0x7FFFFFu) | 0x3F000000u;
    const float half = bits.f;  // 1/2 <= half < 1
    const float e = (float)exponent - (half < 0.707106781186547524f ? 1.0f : 0.0f);
    const float f = half < 0.707106781186547524f ? (half - 1.0f) + half : half - 1.0f;
    const float z = f * f;
    float y = 7.0376836292e-2f;
    y = PID_FMA(y, f, -1.1514610310e-1f);
    y = PID_FMA(y, f, 1.1676998740e-1f);
    y = PID_FMA(y, f, -1.2420140846e-1f);
    y = PID_FMA(y, f, 1.4249322787e-1f);
    y = PID_FMA(y, f, -1.6668057665e-1f);
    y = PID_FMA(y, f, 2.0000714765e-1f);
    y = PID_FMA(y, f, -2.4999993993e-1f);
    y = PID_FMA(y, f, 3.3333331174e-1f);
    y = PID_FMA(y * f, z, e * -2.12194440e-4f);
    return PID_FMA(e, 0.693359375f, f + PID_FMA(z, -0.5f, y));
}

// The 16 normals of 16 uniforms: eight radii, eight angles; then cosines, sines.
static inline void pid_sixteen(float *out, const float *u) {
    for (int k = 0; k < 8; ++k) {
        const float radius = __builtin_sqrtf(-2.0f * pid_log(1.0f - u[k]));
        const float angle = 6.283185307179586f * u[k + 8];
        const int32_t octant = ((int32_t)(angle * 1.2732395447351628f) + 1) & ~1;
        float x = PID_FMA((float)octant, -0.78515625f, angle);
        x = PID_FMA((float)octant, -2.4187564849853515625e-4f, x);
        x = PID_FMA((float)octant, -3.77489497744594108e-8f, x);
        const float z = x * x;
        float c = 2.443315711809948e-5f, s = -1.9515295891e-4f;
        c = PID_FMA(c, z, -1.388731625493765e-3f);
        c = PID_FMA(c, z, 4.166664568298827e-2f);
        c = PID_FMA(c * z, z, z * -0.5f) + 1.0f;
        s = PID_FMA(s, z, 8.3321608736e-3f);
        s = PID_FMA(s, z, -1.6666654611e-1f);
        s = PID_FMA(s * z, x, x);
        const float sine = octant & 2 ? c : s, cosine = octant & 2 ? s : c;
        out[k] = radius * ((octant + 2) & 4 ? -cosine : cosine);
        out[k + 8] = radius * (octant & 4 ? -sine : sine);
    }
}

// The normals of a tensor of n >= 16 elements, after so many words; returns 0 where the processor has no fused
// multiply-add, by which the library function that stands for it would be slower than numpy.
PID_TORCH(PID_NAME(pid_torch_)) {
#if defined(__FMA__) || defined(__aarch64__)
    PidTwister state;
    float u[16 * PID_GROUPS];
    pid_seed(&state, seed, skipped);
    uint64_t groups = n / 16;
    float *to = out;
    while (groups) {
        const uint32_t some = groups < PID_GROUPS ? (uint32_t)groups : PID_GROUPS;
        pid_take(&state, u, 16 * some);
        for (uint32_t k = 0; k < some; ++k) pid_sixteen(to + 16 * k, u + 16 * k);
        to += 16 * some;
        groups -= some;
    }
    if (n % 16) {  // the end is filled again
        pid_take(&state, u, (uint32_t)(n % 16));
        pid_take(&state, u, 16);
        pid_sixteen(out + n - 16, u);
    }
    return 1;
#else
    (void)out, (void)n, (void)skipped, (void)seed;
    return 0;
#endif
}
