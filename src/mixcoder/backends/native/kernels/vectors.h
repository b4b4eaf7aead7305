// Vectors of float32, their exponential and sums; bfloat16.
#pragma once

#include <cstdint>
#include <cstring>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

// The compiler's own vectors, as wide as the processor's registers: wider ones are moved through memory. Loads need no
// alignment.
#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif
typedef float Vec __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t IntVec __attribute__((vector_size(VECTOR_BYTES)));
typedef float LooseVec __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
constexpr int WIDTH = VECTOR_BYTES / sizeof(float);

inline Vec load(const float* from) { return *reinterpret_cast<const LooseVec*>(from); }
inline void store(float* to, Vec value) { *reinterpret_cast<LooseVec*>(to) = value; }
inline Vec all(float value) { return value - Vec{}; }

// At most WIDTH elements and at least one, the rest zeros.
#if defined(__AVX512F__)
inline Vec load(const float* from, int count) {
    return (Vec)__builtin_ia32_loadups512_mask(from, Vec{}, (uint16_t)((1u << count) - 1));
}
inline void store(float* to, Vec value, int count) {
    __builtin_ia32_storeups512_mask(to, value, (uint16_t)((1u << count) - 1));
}
#elif defined(__AVX__)
constexpr int32_t IS_LOADED[2 * WIDTH] = {-1, -1, -1, -1, -1, -1, -1, -1};
inline IntVec mask_of(int count) {
    IntVec mask;
    std::memcpy(&mask, IS_LOADED + WIDTH - count, sizeof mask);
    return mask;
}
inline Vec load(const float* from, int count) {
    return __builtin_ia32_maskloadps256(reinterpret_cast<const Vec*>(from), mask_of(count));
}
inline void store(float* to, Vec value, int count) {
    __builtin_ia32_maskstoreps256(reinterpret_cast<Vec*>(to), mask_of(count), value);
}
#else
inline Vec load(const float* from, int count) {
    if (count == WIDTH) return load(from);
    return count == 3 ? Vec{from[0], from[1], from[2]} : count == 2 ? Vec{from[0], from[1]} : Vec{from[0]};
}
inline void store(float* to, Vec value, int count) {
    for (int i = 0; i < WIDTH; ++i)
        if (i < count) to[i] = value[i];
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

// The sum of all elements, by halves.
typedef float Four __attribute__((vector_size(16)));
inline float sum(Four x) { return (x[0] + x[2]) + (x[1] + x[3]); }
#ifdef __AVX__
typedef float Eight __attribute__((vector_size(32)));
inline float sum(Eight x) {
    Four halves[2];
    std::memcpy(halves, &x, sizeof x);
    return sum(halves[0] + halves[1]);
}
#endif
#ifdef __AVX512F__
inline float sum(Vec x) {
    Eight halves[2];
    std::memcpy(halves, &x, sizeof x);
    return sum(halves[0] + halves[1]);
}
#endif

inline Vec absolute(Vec x) { return (Vec)((IntVec)x & 0x7fffffff); }

// exp(x) = p · 2^exponent, for p near 1; returns p.
inline Vec split_exp(Vec x, IntVec& exponent) {
    const Vec magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
    const Vec n = (x * 1.44269504f + magic) - magic;
    const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Vec p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    exponent = __builtin_convertvector(n, IntVec);
    return p * r * r + r + 1.0f;
}

// exp(x) for x <= 0, to 2 units in the last place; zero below -87.
inline Vec exp_negative(Vec x) {
    const Vec least = all(-87.0f);
    x = x < least ? least : x;
    IntVec exponent;
    const Vec p = split_exp(x, exponent);
    return (Vec)((IntVec)p + (exponent << 23));
}

}  // namespace
