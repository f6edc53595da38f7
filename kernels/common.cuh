// What the kernels share: words, element types, and groups of elements that move 16 bytes at a time.
//
// nvcc, NVRTC and g++ accept these headers; g++ needs the few names of CUDA that tests/support/cuda_emulation.h defines.
#pragma once

#ifdef __CUDACC__
#define PID_DEVICE __device__ __forceinline__
#else
#include <cmath>
#include <cstring>
#define PID_DEVICE inline
#endif

#ifdef __CUDACC_RTC__
typedef unsigned char pid_u8;
typedef unsigned short pid_u16;
typedef unsigned int pid_u32;
typedef unsigned long long pid_u64;
#else
#include <cstdint>
typedef std::uint8_t pid_u8;
typedef std::uint16_t pid_u16;
typedef std::uint32_t pid_u32;
typedef std::uint64_t pid_u64;
#endif

// Element types of a tensor in memory; arithmetic is float32 always.
#define PID_F32 0
#define PID_F16 1
#define PID_BF16 2

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define PID_PAIRS  // it rounds to bfloat16, and two numbers at a time
#endif

#ifdef __CUDACC__
PID_DEVICE pid_u32 pid_bits(float f) { return __float_as_uint(f); }
PID_DEVICE float pid_float(pid_u32 bits) { return __uint_as_float(bits); }
PID_DEVICE float pid_from_half(pid_u16 half) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(half));
    return f;
}
PID_DEVICE pid_u16 pid_to_half(float f) {
    pid_u16 half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(f));
    return half;
}
#else
PID_DEVICE pid_u32 pid_bits(float f) {
    pid_u32 bits;
    std::memcpy(&bits, &f, 4);
    return bits;
}
PID_DEVICE float pid_float(pid_u32 bits) {
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}
PID_DEVICE float pid_from_half(pid_u16 half) {
    const pid_u32 sign = (pid_u32)(half & 0x8000u) << 16, rest = half & 0x7FFFu;
    if (rest >= 0x7C00u) return pid_float(sign | 0x7F800000u | (rest & 0x3FFu) << 13);  // infinity and NaN
    const float size = std::ldexp((float)(rest >> 10 ? (rest & 0x3FFu) | 0x400u : rest), (int)(rest >> 10 ? rest >> 10 : 1) - 25);
    return sign ? -size : size;
}
PID_DEVICE pid_u16 pid_to_half(float f) {  // to the nearest, of two as near to the even one
    const pid_u32 bits = pid_bits(f), sign = bits >> 16 & 0x8000u, size = bits & 0x7FFFFFFFu;
    if (size > 0x7F800000u) return (pid_u16)(sign | 0x7FFFu);  // NaN
    if (size >= 0x477FF000u) return (pid_u16)(sign | 0x7C00u);  // rounds to infinity
    if (size < 0x38800000u) return (pid_u16)(sign | (pid_u32)std::nearbyint(std::ldexp(pid_float(size), 24)));
    return (pid_u16)(sign | (size - 0x38000000u + 0xFFFu + (size >> 13 & 1u)) >> 13);
}
#endif

PID_DEVICE float pid_from_bfloat(pid_u16 b) { return pid_float((pid_u32)b << 16); }
PID_DEVICE pid_u16 pid_to_bfloat(float f) {  // likewise; the low half must not carry into a NaN
#ifdef PID_PAIRS
    pid_u16 b;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(b) : "f"(f));
    return b;
#else
    const pid_u32 bits = pid_bits(f);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFFu;
    return (pid_u16)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
#endif
}

// An element, and the words that vectors of them move in: two of half precision in one, the first in its lower half.
template <int KIND>
struct PidElement {
    typedef pid_u16 type;
    typedef pid_u32 word;
    static constexpr int IN_WORD = 2;
    static PID_DEVICE float load(pid_u16 v) { return KIND == PID_F16 ? pid_from_half(v) : pid_from_bfloat(v); }
    static PID_DEVICE pid_u16 store(float f) { return KIND == PID_F16 ? pid_to_half(f) : pid_to_bfloat(f); }
    static PID_DEVICE void unpack(pid_u32 word, float* to) {
        to[0] = load((pid_u16)word);
        to[1] = load((pid_u16)(word >> 16));
    }
    static PID_DEVICE pid_u32 pack(const float* from) {
#ifdef PID_PAIRS  // both in one instruction, which takes the upper half first
        pid_u32 word;
        if (KIND == PID_F16)
            asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(from[1]), "f"(from[0]));
        else
            asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(from[1]), "f"(from[0]));
        return word;
#else
        return store(from[0]) | (pid_u32)store(from[1]) << 16;
#endif
    }
};
template <>
struct PidElement<PID_F32> {
    typedef float type;
    typedef float word;
    static constexpr int IN_WORD = 1;
    static PID_DEVICE float load(float v) { return v; }
    static PID_DEVICE float store(float f) { return f; }
    static PID_DEVICE void unpack(float word, float* to) { *to = word; }
    static PID_DEVICE float pack(const float* from) { return *from; }
};

template <typename T, int V>
struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) PidPack {
    T v[V];
};

// How many elements of tensors of these types (below 0: of none) a thread takes in one pass: 16 bytes of the narrowest.
template <int... KINDS>
PID_DEVICE constexpr int pid_group() {
    return ((KINDS <= PID_F32) && ...) ? 4 : 8;
}

// `count` <= V elements from element i on; those missing are 0. With VECTOR, base + i is aligned to 16 bytes.
template <int KIND, int V, bool VECTOR>
PID_DEVICE void pid_load(const void* base, pid_u64 i, int count, float (&out)[V]) {
    typedef PidElement<KIND> E;
    typedef typename E::type T;
    typedef PidPack<typename E::word, V / E::IN_WORD> Pack;
    const T* from = static_cast<const T*>(base) + i;
    if (VECTOR && count == V) {
        const Pack pack = *reinterpret_cast<const Pack*>(from);
#pragma unroll
        for (int j = 0; j < V; j += E::IN_WORD) E::unpack(pack.v[j / E::IN_WORD], out + j);
    } else {
#pragma unroll
        for (int j = 0; j < V; ++j) out[j] = j < count ? E::load(from[j]) : 0.0f;
    }
}

template <int KIND, int V, bool VECTOR>
PID_DEVICE void pid_store(void* base, pid_u64 i, int count, const float (&values)[V]) {
    typedef PidElement<KIND> E;
    typedef typename E::type T;
    typedef PidPack<typename E::word, V / E::IN_WORD> Pack;
    T* to = static_cast<T*>(base) + i;
    if (VECTOR && count == V) {
        Pack pack;
#pragma unroll
        for (int j = 0; j < V; j += E::IN_WORD) pack.v[j / E::IN_WORD] = E::pack(values + j);
        *reinterpret_cast<Pack*>(to) = pack;
    } else {
#pragma unroll
        for (int j = 0; j < V; ++j)
            if (j < count) to[j] = E::store(values[j]);
    }
}
