// Vectors of 16 float32, their exponential and sums; bfloat16.
#pragma once

#include <cstdint>
#include <cstring>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

// The compiler's own vectors, 16 elements wide on every processor; loads need no alignment.
typedef float Vec __attribute__((vector_size(64)));
typedef int32_t IntVec __attribute__((vector_size(64)));
typedef float LooseVec __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int WIDTH = 16;

inline Vec load(const float* from) { return *reinterpret_cast<const LooseVec*>(from); }
inline void store(float* to, Vec value) { *reinterpret_cast<LooseVec*>(to) = value; }
inline Vec all(float value) { return value - Vec{}; }

// Fewer than WIDTH elements, the rest zeros.
#ifdef __AVX512F__
inline Vec load(const float* from, int count) {
    return (Vec)__builtin_ia32_loadups512_mask(from, Vec{}, (uint16_t)((1u << count) - 1));
}
inline void store(float* to, Vec value, int count) {
    __builtin_ia32_storeups512_mask(to, value, (uint16_t)((1u << count) - 1));
}
#else
template <int COUNT>
inline void copy_if(int count, const float*& from, float*& to) {
    if (!(count & COUNT)) return;
    std::memcpy(to, from, COUNT * sizeof(float));
    from += COUNT, to += COUNT;
}
inline void copy_few(const float* from, float* to, int count) {  // a memcpy of unknown length is a call
    copy_if<16>(count, from, to);
    copy_if<8>(count, from, to);
    copy_if<4>(count, from, to);
    copy_if<2>(count, from, to);
    copy_if<1>(count, from, to);
}
inline Vec load(const float* from, int count) {
    float lanes[WIDTH] = {};
    copy_few(from, lanes, count);
    return load(lanes);
}
inline void store(float* to, Vec value, int count) {
    float lanes[WIDTH];
    store(lanes, value);
    copy_few(lanes, to, count);
}
#endif

// bfloat16: the upper half of a float32, here in integers of 16 bits, rounded to the nearest, ties to even.
typedef uint16_t BFloat16;
inline BFloat16 as_bf16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return value == value ? nearest : 0x7fc0;  // NaN stays NaN
}

inline float sum(Vec value) {
    typedef float Half __attribute__((vector_size(32)));
    typedef float Quarter __attribute__((vector_size(16)));
    Half halves[2];
    std::memcpy(halves, &value, sizeof value);
    const Half half = halves[0] + halves[1];
    Quarter quarters[2];
    std::memcpy(quarters, &half, sizeof half);
    const Quarter quarter = quarters[0] + quarters[1];
    return (quarter[0] + quarter[2]) + (quarter[1] + quarter[3]);
}

inline Vec absolute(Vec x) { return (Vec)((IntVec)x & 0x7fffffff); }

// exp(x) for x <= 0, to 2 units in the last place; zero below -87.
inline Vec exp_negative(Vec x) {
    const Vec least = all(-87.0f);
    x = x < least ? least : x;
    const Vec magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
    const Vec n = (x * 1.44269504f + magic) - magic;
    const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Vec p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return (Vec)((IntVec)p + (__builtin_convertvector(n, IntVec) << 23));
}

}  // namespace
