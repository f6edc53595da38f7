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
    const pid_u32 bits = pid_bits(f);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFFu;
    return (pid_u16)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

template <int KIND>
struct PidElement {
    typedef pid_u16 type;
    static PID_DEVICE float load(pid_u16 v) { return KIND == PID_F16 ? pid_from_half(v) : pid_from_bfloat(v); }
    static PID_DEVICE pid_u16 store(float f) { return KIND == PID_F16 ? pid_to_half(f) : pid_to_bfloat(f); }
};
template <>
struct PidElement<PID_F32> {
    typedef float type;
    static PID_DEVICE float load(float v) { return v; }
    static PID_DEVICE float store(float f) { return f; }
};

template <typename T, int V>
struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) PidPack {
    T v[V];
};

// `count` <= V elements from element i on; those missing are 0. With VECTOR, base + i is aligned to 16 bytes.
template <int KIND, int V, bool VECTOR>
PID_DEVICE void pid_load(const void* base, pid_u64 i, int count, float (&out)[V]) {
    typedef typename PidElement<KIND>::type T;
    const T* from = static_cast<const T*>(base) + i;
    if (VECTOR && count == V) {
        const PidPack<T, V> pack = *reinterpret_cast<const PidPack<T, V>*>(from);
#pragma unroll
        for (int j = 0; j < V; ++j) out[j] = PidElement<KIND>::load(pack.v[j]);
    } else {
#pragma unroll
        for (int j = 0; j < V; ++j) out[j] = j < count ? PidElement<KIND>::load(from[j]) : 0.0f;
    }
}

template <int KIND, int V, bool VECTOR>
PID_DEVICE void pid_store(void* base, pid_u64 i, int count, const float (&values)[V]) {
    typedef typename PidElement<KIND>::type T;
    T* to = static_cast<T*>(base) + i;
    if (VECTOR && count == V) {
        PidPack<T, V> pack;
#pragma unroll
        for (int j = 0; j < V; ++j) pack.v[j] = PidElement<KIND>::store(values[j]);
        *reinterpret_cast<PidPack<T, V>*>(to) = pack;
    } else {
#pragma unroll
        for (int j = 0; j < V; ++j)
            if (j < count) to[j] = PidElement<KIND>::store(values[j]);
    }
}
