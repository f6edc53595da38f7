// The CPU's noise and rows, compiled: the same bits as numpy's form, which is pidsampler/noise/philox.py and
// pidsampler/backends/numpy.py. Further parts are host_crew.h, host_torch.h and host_image.h.
//
// C with the vector extensions of gcc and clang. hatch_build.py compiles this file for each instruction set and each type
// of x, with PID_FORM and PID_REAL set to their names and PID_IS_FLOAT defined for float, and once more without, for what
// calls one of them; all together are one shared library. Products and sums are never contracted (-ffp-contract=off), nor
// reordered: so all forms give one set of bits.
//
// Sources: as in noise.cuh, whose operations these are.
#define _GNU_SOURCE  // which core a thread is on, in Linux
#include <math.h>
#include <stdint.h>
#include <string.h>

#define PID_VERSION 4  // raised with each change of what is called from Python; pidsampler/native/library.py has it too

#define PID_RESULTS 8  // of one row: x, and saved tensors
#define PID_TERMS 16   // of one result: x, x0 and saved tensors

// One row. Arrays have numbers: 0 is x, others are saved tensors.
typedef struct {
    double p, q, clip;            // x0 = clip(p*x + q*m); clip is infinite where there is none
    uint32_t results, draws;
    const uint32_t *draw;         // numbers of the draws, ascending
    const double *scale;          // of each draw, its weight in each result; 0 is none
    struct {
        uint32_t out, terms;
        double weight[PID_TERMS];
        int32_t source[PID_TERMS];  // -1 is x0
    } result[PID_RESULTS];
} PidHostRow;

// A row to do for one image. Its arrays are whole images, of one type with m: float or double.
typedef struct {
    uint32_t form, wide;          // which function does it; `wide` is 1 where elements are double
    const PidHostRow *row;
    uint64_t seed;
    const void *m;                // from element m_start on
    uint64_t m_start, stop;       // and the element to end before
    uint64_t part, most;          // elements of a part, and of the parts of one call
    void *array[];
} PidHostStep;

#define PID_FILL(name) \
    void name(float *out, uint64_t n, uint64_t start, uint64_t seed, uint32_t draw, uint32_t stream)
#define PID_STEP(name) void name(const PidHostStep *step, uint64_t start, uint64_t stop)

#define PID_TORCH(name) int name(float *out, uint64_t n, uint64_t skipped, uint32_t seed)

// A sampled tensor whose top left is a picture, and that picture.
typedef struct {
    const float *x;
    uint8_t *out;             // height * width * 3
    uint64_t plane, row;      // elements of x from one to the next
    uint64_t height, width;
    float limit;              // by which specks stand out
} PidImage;

#define PID_IMAGE(name) int name(const PidImage *image, uint64_t top, uint64_t bottom, float *scratch)
#define PID_SCRATCH 65536     // floats that taking specks out needs

#ifdef PID_FORM

#define PID_JOINED(a, b, c) a##b##_##c
#define PID_JOIN(a, b, c) PID_JOINED(a, b, c)
#define PID_NAME(name) PID_JOIN(name, PID_FORM, PID_REAL)  // such as pid_step_avx2_float

// Noise: vectors of 64-bit lanes, one counter each. A round's two products need the lower half of each lane only, so upper halves are never cleared. Each vector of words
// has the radius words, or the angle words, of its counters; sines and cosines interleaved are then the normals in the
// order of memory, since PID_ORDER numbers the lanes so that 128 bits at a time fit together.
#if defined(__AVX512F__)
#include <immintrin.h>
#define PID_WIDTH 64
#define PID_ORDER {0, 4, 1, 5, 2, 6, 3, 7}
#define PID_WIDE_PRODUCT(a, b) ((PidU64)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
#define PID_ROOT(a) ((PidF32)_mm512_sqrt_ps((__m512)(a)))
#define PID_LOW(a, b) ((PidF32)_mm512_unpacklo_ps((__m512)(a), (__m512)(b)))
#define PID_HIGH(a, b) ((PidF32)_mm512_unpackhi_ps((__m512)(a), (__m512)(b)))
#define PID_FLOAT(a) ((PidF32)_mm512_cvtepi32_ps((__m512i)(a)))
#elif defined(__AVX2__)
#include <immintrin.h>
#define PID_WIDTH 32
#define PID_ORDER {0, 2, 1, 3}
#define PID_WIDE_PRODUCT(a, b) ((PidU64)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#define PID_ROOT(a) ((PidF32)_mm256_sqrt_ps((__m256)(a)))
#define PID_LOW(a, b) ((PidF32)_mm256_unpacklo_ps((__m256)(a), (__m256)(b)))
#define PID_HIGH(a, b) ((PidF32)_mm256_unpackhi_ps((__m256)(a), (__m256)(b)))
#define PID_FLOAT(a) ((PidF32)_mm256_cvtepi32_ps((__m256i)(a)))
#elif defined(__SSE2__)
#include <emmintrin.h>
#define PID_WIDTH 16
#define PID_ORDER {0, 1}
#define PID_WIDE_PRODUCT(a, b) ((PidU64)_mm_mul_epu32((__m128i)(a), (__m128i)(b)))
#define PID_ROOT(a) ((PidF32)_mm_sqrt_ps((__m128)(a)))
#define PID_LOW(a, b) ((PidF32)_mm_unpacklo_ps((__m128)(a), (__m128)(b)))
#define PID_HIGH(a, b) ((PidF32)_mm_unpackhi_ps((__m128)(a), (__m128)(b)))
#define PID_FLOAT(a) ((PidF32)_mm_cvtepi32_ps((__m128i)(a)))
#elif defined(__aarch64__)
#include <arm_neon.h>
#define PID_WIDTH 16
#define PID_ORDER {0, 1}
#define PID_WIDE_PRODUCT(a, b) ((PidU64)vmull_u32(vmovn_u64((uint64x2_t)(a)), vmovn_u64((uint64x2_t)(b))))
#define PID_ROOT(a) ((PidF32)vsqrtq_f32((float32x4_t)(a)))
#define PID_LOW(a, b) ((PidF32)vzip1q_f32((float32x4_t)(a), (float32x4_t)(b)))
#define PID_HIGH(a, b) ((PidF32)vzip2q_f32((float32x4_t)(a), (float32x4_t)(b)))
#define PID_FLOAT(a) ((PidF32)vcvtq_f32_s32((int32x4_t)(a)))
#else
#error "no vectors are written for this processor: numpy does the work there"
#endif

#define PID_LANES (PID_WIDTH / 8)  // counters of a vector; each has four normals
#define PID_BLOCK 256              // elements of a row at a time, which stay in the first-level cache

typedef uint64_t PidU64 __attribute__((vector_size(PID_WIDTH)));
typedef uint32_t PidU32 __attribute__((vector_size(PID_WIDTH)));
typedef int32_t PidI32 __attribute__((vector_size(PID_WIDTH)));
typedef float PidF32 __attribute__((vector_size(PID_WIDTH)));
#define PID_ALL(value) ((PidU64){0} + (uint64_t)(value))

static inline PidF32 pid_radius(PidU32 r) {
    // (float)r * 2^-32: the halves of r in the fractions of 2^7 and 2^-9, whose difference is exact, and one rounding.
    const PidF32 high = (PidF32)(r >> 16 | 0x43000000u), low = (PidF32)((r & 0xFFFFu) | 0x3B000000u);
    const PidF32 u = ((high - (0x1p+7f + 0x1p-9f)) + low) + 0x1p-33f;
    const PidF32 below_1 = PID_FLOAT(~r) * -0x1p-32f - 0x1p-33f;  // used where ~r is below 2^31
    const PidU32 exponent = ((PidU32)u - 0x3F2AAAABu) & 0xFF800000u;
    const PidU32 far = (PidU32)(exponent != 0u);
    const PidU32 scaled = (PidU32)((PidF32)((PidU32)u - exponent) - 1.0f);
    const PidF32 f = (PidF32)((scaled & far) | ((PidU32)below_1 & ~far));
    PidF32 p = -0.299724579f * f + 0.306788713f;
    p = p * f - 0.275270224f;
    p = p * f + 0.328606695f;
    p = p * f - 0.400579661f;
    p = p * f + 0.500129998f;
    p = p * f - 0.666655481f;
    p = p * f + 0.999999464f;
    p = p * f - 2.0f;
    return PID_ROOT(PID_FLOAT(exponent) * -1.65259166e-7f + p * f);
}

static inline void pid_sincos(PidU32 r, PidF32 *sine, PidF32 *cosine) {
    const PidU32 quarters = r + 0x20000000u;
    const PidF32 t = PID_FLOAT(r << 2 | 2u) * 0x1p-31f, t2 = t * t;
    PidF32 s = -3.63177714e-5f * t2 + 0.002490649f;
    s = s * t2 - 0.0807457417f;
    s = (s * t2 + 0.785398185f) * t;
    PidF32 c = 3.49398124e-6f * t2 - 0.000325868634f;
    c = c * t2 + 0.0158542842f;
    c = c * t2 - 0.308425128f;
    c = c * t2 + 1.0f;
    const PidU32 odd = (PidU32)((PidI32)(quarters << 1) >> 31);
    const PidU32 swap = ((PidU32)s ^ (PidU32)c) & odd;
    *sine = (PidF32)((PidU32)s ^ swap ^ (quarters & 0x80000000u));
    *cosine = (PidF32)((PidU32)c ^ swap ^ ((quarters + 0x40000000u) & 0x80000000u));
}

// The normals of the counters q .. q + PID_LANES - 1, in the order of memory.
static inline void pid_normals(float *out, uint64_t q, uint64_t seed, uint32_t draw, uint32_t stream) {
    PidU64 c0 = (PidU64)PID_ORDER + q, c1 = c0 >> 32, c2 = PID_ALL(draw), c3 = PID_ALL(stream);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const PidU64 p0 = PID_WIDE_PRODUCT(c0, PID_ALL(0xD2511F53u)), p1 = PID_WIDE_PRODUCT(c2, PID_ALL(0xCD9E8D57u));
        c0 = (p1 >> 32) ^ c1 ^ PID_ALL(k0);
        c2 = (p0 >> 32) ^ c3 ^ PID_ALL(k1);
        c1 = p1;
        c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    const PidU64 lower = PID_ALL(0xFFFFFFFFu);
    const PidF32 radius = pid_radius((PidU32)((c0 & lower) | c2 << 32));
    PidF32 sine, cosine;
    pid_sincos((PidU32)((c1 & lower) | c3 << 32), &sine, &cosine);
    sine *= radius;
    cosine *= radius;
    const PidF32 first = PID_LOW(sine, cosine), second = PID_HIGH(sine, cosine);
    memcpy(out, &first, PID_WIDTH);
    memcpy(out + PID_WIDTH / 4, &second, PID_WIDTH);
}

// The noise of positions start .. start + n - 1 of one image.
PID_FILL(PID_NAME(pid_fill_)) {
    float some[4 * PID_LANES];
    uint64_t q = start / 4;
    if (start % 4 && n) {  // the first counter is shared with what lies before
        const uint64_t skipped = start % 4, count = n < 4 - skipped ? n : 4 - skipped;
        pid_normals(some, q++, seed, draw, stream);
        memcpy(out, some + skipped, count * sizeof(float));
        out += count;
        n -= count;
    }
    for (; n >= 4 * PID_LANES; n -= 4 * PID_LANES, out += 4 * PID_LANES, q += PID_LANES)
        pid_normals(out, q, seed, draw, stream);
    if (n) {
        pid_normals(some, q, seed, draw, stream);
        memcpy(out, some, n * sizeof(float));
    }
}

// Rows: loops that the compiler makes vectors of.

static inline void pid_predict(PID_REAL *restrict x0, const PidHostStep *step, uint64_t at, uint64_t n) {
    const PidHostRow *row = step->row;
    const PID_REAL *m = (const PID_REAL *)step->m + (at - step->m_start);
    const PID_REAL p = (PID_REAL)row->p, q = (PID_REAL)row->q;
    const PID_REAL high = (PID_REAL)row->clip, low = -high;
    if (row->p == 0.0) {
        for (uint64_t i = 0; i < n; ++i) x0[i] = q * m[i];
    } else {
        const PID_REAL *x = (const PID_REAL *)step->array[0] + at;
        for (uint64_t i = 0; i < n; ++i) x0[i] = q * m[i] + p * x[i];
    }
    if (row->clip < HUGE_VAL)
        for (uint64_t i = 0; i < n; ++i) {  // NaN stays
            const PID_REAL above = x0[i] < low ? low : x0[i];
            x0[i] = above > high ? high : above;
        }
}

// out = (begun ? out : 0) + the sum of so many terms, in order; to the compiler `terms` is a constant.
__attribute__((always_inline)) static inline void pid_add(PID_REAL *restrict out, int terms, const PID_REAL *const *from,
                                                          const PID_REAL *weight, int begun, uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
        PID_REAL total = begun ? out[i] + weight[0] * from[0][i] : weight[0] * from[0][i];
        for (int k = 1; k < terms; ++k) total += weight[k] * from[k][i];
        out[i] = total;
    }
}

// x = a*x + b*x0 + h*saved in one pass, without room between; to the compiler the last four are constants.
__attribute__((always_inline)) static inline void pid_plain(const PidHostStep *step, uint64_t at, uint64_t n, int p_x,
                                                            int a_x, int h, int clips) {
    const PidHostRow *row = step->row;
    const PID_REAL p = (PID_REAL)row->p, q = (PID_REAL)row->q, high = (PID_REAL)row->clip;
    const double *weight = row->result[0].weight;
    const PID_REAL a = (PID_REAL)weight[0], b = (PID_REAL)weight[a_x], w = (PID_REAL)weight[a_x + h];
    PID_REAL *restrict x = (PID_REAL *)step->array[0] + at;
    const PID_REAL *restrict m = (const PID_REAL *)step->m + (at - step->m_start);
    const PID_REAL *restrict saved = h ? (const PID_REAL *)step->array[row->result[0].source[a_x + 1]] + at : 0;
    for (uint64_t i = 0; i < n; ++i) {
        PID_REAL x0 = p_x ? q * m[i] + p * x[i] : q * m[i];
        if (clips) x0 = x0 < -high ? -high : x0;
        if (clips) x0 = x0 > high ? high : x0;
        PID_REAL total = a_x ? a * x[i] + b * x0 : b * x0;
        if (h) total += w * saved[i];
        x[i] = total;
    }
}

// Which of the plain rows a row is, whose only result is x, of x, x0, and one saved tensor at most; -1 where it is another.
static int pid_plain_kind(const PidHostRow *row) {
    const int terms = (int)row->result[0].terms, a_x = terms && row->result[0].source[0] == 0;
    const int h = terms - a_x - 1;
    if (row->results != 1 || row->draws || h < 0 || h > 1 || row->result[0].source[a_x] >= 0) return -1;
    return (row->p != 0.0) + 2 * a_x + 4 * h + 8 * (row->clip < HUGE_VAL);
}

#define PID_PLAIN(kind) \
    case kind: pid_plain(step, at, n, kind & 1, kind >> 1 & 1, kind >> 2 & 1, kind >> 3); break;
#define PID_PLAINS(first) PID_PLAIN((first)) PID_PLAIN((first + 1)) PID_PLAIN((first + 2)) PID_PLAIN((first + 3))

PID_STEP(PID_NAME(pid_step_)) {
    const PidHostRow *row = step->row;
    const int kind = pid_plain_kind(row);
    PID_REAL x0[PID_BLOCK], result[PID_RESULTS][PID_BLOCK];
    float normals[PID_BLOCK];
    // Blocks end where x's lines of the cache do, which the other arrays most often share; noise has whole counters.
    const uint64_t place = row->draws ? 0 : (uintptr_t)((const PID_REAL *)step->array[0] + start) / sizeof(PID_REAL);
    const uint64_t block = kind < 0 ? PID_BLOCK : stop - start;  // one pass over all is faster than over each block
    uint64_t n = PID_BLOCK - place % (64 / sizeof(PID_REAL));
    for (uint64_t at = start; at < stop; at += n, n = block) {
        if (n > stop - at) n = stop - at;
        switch (kind) {
            PID_PLAINS(0)
            PID_PLAINS(4)
            PID_PLAINS(8)
            PID_PLAINS(12)
        }
        if (kind >= 0) continue;
        pid_predict(x0, step, at, n);
        for (uint32_t r = 0; r < row->results; ++r) {
            const PID_REAL *from[PID_TERMS];
            PID_REAL weight[PID_TERMS];
            const int terms = (int)row->result[r].terms;
            for (int k = 0; k < terms; ++k) {
                const int32_t source = row->result[r].source[k];
                from[k] = source < 0 ? x0 : (const PID_REAL *)step->array[source] + at;
                weight[k] = (PID_REAL)row->result[r].weight[k];
            }
            switch (terms) {
            case 0: memset(result[r], 0, sizeof(result[r])); break;
            case 1: pid_add(result[r], 1, from, weight, 0, n); break;
            case 2: pid_add(result[r], 2, from, weight, 0, n); break;
            case 3: pid_add(result[r], 3, from, weight, 0, n); break;
            default: pid_add(result[r], 4, from, weight, 0, n);
            }
            for (int k = 4; k < terms; ++k) pid_add(result[r], 1, from + k, weight + k, 1, n);
        }
        for (uint32_t d = 0; d < row->draws; ++d) {
            PID_NAME(pid_fill_)(normals, n, at, step->seed, row->draw[d], 0);
            for (uint32_t r = 0; r < row->results; ++r) {
                const double scale = row->scale[(uint64_t)d * row->results + r];
                const PID_REAL c = (PID_REAL)scale;
                if (scale != 0.0)
                    for (uint64_t i = 0; i < n; ++i) result[r][i] += c * (PID_REAL)normals[i];
            }
        }
        for (uint32_t r = 0; r < row->results && r < PID_RESULTS; ++r)  // all reads of an element are done
            memcpy((PID_REAL *)step->array[row->result[r].out] + at, result[r], n * sizeof(PID_REAL));
    }
}

#ifdef PID_IS_FLOAT  // once, not for each type
#include "host_torch.h"
#include "host_image.h"
#endif

#else  // what Python calls

#ifdef _WIN32
#define PID_EXPORT __declspec(dllexport)
#else
#define PID_EXPORT __attribute__((visibility("default")))
#endif

#define PID_DECLARE(form)                \
    PID_FILL(pid_fill_##form##_float);   \
    PID_TORCH(pid_torch_##form##_float); \
    PID_IMAGE(pid_image_##form##_float); \
    PID_STEP(pid_step_##form##_float);   \
    PID_STEP(pid_step_##form##_double);

enum { PID_NEON, PID_SSE2, PID_AVX2, PID_AVX512, PID_FORMS };  // as pidsampler/native/library.py numbers them

#ifdef __aarch64__
PID_DECLARE(neon)
#define PID_TABLE(function, type) {function##neon##type, 0, 0, 0}
#else
PID_DECLARE(sse2)
PID_DECLARE(avx2)
PID_DECLARE(avx512)
#define PID_TABLE(function, type) {0, function##sse2##type, function##avx2##type, function##avx512##type}
#endif

PID_EXPORT uint32_t pid_version(void) { return PID_VERSION; }

// The size of a row, for Python to compare with its own.
PID_EXPORT uint32_t pid_row_size(void) { return sizeof(PidHostRow); }

// A bit for each form that this processor and its system run.
#ifdef __aarch64__
PID_EXPORT uint32_t pid_forms(void) { return 1u << PID_NEON; }
#else
#include <cpuid.h>
PID_EXPORT uint32_t pid_forms(void) {
    uint32_t found = 1u << PID_SSE2, a, b, c, d, saved, upper;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return found;
    const uint32_t fused = c & bit_FMA;
    __asm__("xgetbv" : "=a"(saved), "=d"(upper) : "c"(0));  // which registers the system keeps
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    if ((saved & 0x06) == 0x06 && (b & bit_AVX2) && fused) found |= 1u << PID_AVX2;
    if ((saved & 0xE6) == 0xE6 && (b & bit_AVX512F)) found |= 1u << PID_AVX512;
    return found;
}
#endif

PID_EXPORT void pid_fill(uint32_t form, float *out, uint64_t n, uint64_t start, uint64_t seed, uint32_t draw,
                         uint32_t stream) {
    static PID_FILL((*const fills[PID_FORMS])) = PID_TABLE(pid_fill_, _float);
    fills[form](out, n, start, seed, draw, stream);
}

#include "host_crew.h"

// PyTorch's noise; returns 0 where numpy is faster.
PID_EXPORT int pid_torch(uint32_t form, float *out, uint64_t n, uint64_t skipped, uint32_t seed) {
    static PID_TORCH((*const torches[PID_FORMS])) = PID_TABLE(pid_torch_, _float);
    return torches[form](out, n, skipped, seed);
}

// Rows of a picture; `scratch` has PID_SCRATCH floats, or is null where specks stay. Returns 0 where one is not finite.
PID_EXPORT int pid_image(uint32_t form, const PidImage *image, uint64_t top, uint64_t bottom, float *scratch) {
    static PID_IMAGE((*const images[PID_FORMS])) = PID_TABLE(pid_image_, _float);
    return images[form](image, top, bottom, scratch);
}

#endif
