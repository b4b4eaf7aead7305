// Functions of each element: each a struct of the name in codes.py, in a namespace of their own. Most take no arguments,
// some one or two. NaN stays NaN.
#pragma once

#include <cmath>

#include "activations.h"
#include "vectors.h"

namespace {
namespace functions {

// exp(x) to 2 units in the last place; zero below -87.3, infinite above 88.7.
struct Exp {
    static Vec of(Vec x, float, float) {
        const Vec least = all(-87.33654f), most = all(88.72283f), zero{}, infinite = all(__builtin_inff());
        const Vec inner = x < least ? least : (x > most ? most : x);
        IntVec whole;
        const Vec p = split_exp(inner, whole);
        const IntVec half = whole >> 1;  // 2^128 is no float32
        const Vec value = p * (Vec)((half + 127) << 23) * (Vec)((whole - half + 127) << 23);
        return x < least ? zero : (x > most ? infinite : value);
    }
};

// log(x) to 2 units in the last place (the polynomial is that of Cephes, by S. Moshier).
struct Log {
    static Vec of(Vec x, float, float) {
        const Vec zero{}, one = all(1.0f), infinite = all(__builtin_inff()), none = all(__builtin_nanf(""));
        IntVec exponent = ((IntVec)x >> 23) - 126;
        Vec m = (Vec)(((IntVec)x & 0x007fffff) | 0x3f000000);  // in [0.5, 1)
        const IntVec is_small = m < all(0.707106781f);
        exponent += is_small;  // -1 where it holds
        m = (is_small ? m + m : m) - one;
        const Vec e = __builtin_convertvector(exponent, Vec), square = m * m;
        Vec p = all(7.0376836292e-2f);
        p = p * m - 1.1514610310e-1f;
        p = p * m + 1.1676998740e-1f;
        p = p * m - 1.2420140846e-1f;
        p = p * m + 1.4249322787e-1f;
        p = p * m - 1.6668057665e-1f;
        p = p * m + 2.0000714765e-1f;
        p = p * m - 2.4999993993e-1f;
        p = p * m + 3.3333331174e-1f;
        p = p * m * square + e * -2.12194440e-4f - square * 0.5f;
        const Vec value = m + p + e * 0.693359375f;
        const Vec known = x < zero ? none : (x == zero ? -infinite : value);
        return (x == infinite) | (x != x) ? x : known;
    }
};

template <float function(float)>
struct Lanes {
    static Vec of(Vec x, float, float) {
        float lanes[WIDTH];
        std::memcpy(lanes, &x, sizeof x);
        for (int i = 0; i < WIDTH; ++i) lanes[i] = function(lanes[i]);
        std::memcpy(&x, lanes, sizeof x);
        return x;
    }
};

inline float root(float x) { return __builtin_sqrtf(x); }
inline float sine(float x) { return std::sin(x); }
inline float cosine(float x) { return std::cos(x); }

struct Sqrt : Lanes<root> {};

// erf(x): an odd polynomial up to 1 (that of Cephes, by S. Moshier), beyond it the tail of the normal distribution.
struct Erf {
    static Vec of(Vec x, float, float) {
        const Vec zero{}, one = all(1.0f), size = absolute(x), square = x * x;
        Vec p = all(7.853861353153693e-5f);
        p = p * square - 8.010193625184903e-4f;
        p = p * square + 5.188327685732524e-3f;
        p = p * square - 2.685381193529856e-2f;
        p = p * square + 1.128358514861418e-1f;
        p = p * square - 3.761262582423300e-1f;
        p = p * square + 1.128379165726710f;
        const Vec z = size * 1.4142135624f, t = one / (z * 0.3f + 1.0f);
        Vec tail = all(GELU::TAIL[7]);
        for (int i = 6; i >= 0; --i) tail = tail * t + GELU::TAIL[i];
        const Vec most = one - tail * t * exp_negative(-square) * 2.0f;
        return size < one ? p * x : (x < zero ? -most : most);
    }
};

// sin(x + quarters·π/2) for |x| < 8192, where x is taken less the nearest multiple of π/2, in three parts: a
// polynomial of what is left (those of Cephes, by S. Moshier).
template <int QUARTERS>
inline Vec sine_of(Vec x) {
    const Vec magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
    const Vec n = (x * 0.6366197724f + magic) - magic;
    const Vec r = ((x - n * 1.5703125f) - n * 4.837512969970703125e-4f) - n * 7.54978995489188216e-8f;
    const IntVec quarter = __builtin_convertvector(n, IntVec) + QUARTERS;
    const Vec square = r * r;
    const Vec sine = ((square * -1.9515295891e-4f + 8.3321608736e-3f) * square - 1.6666654611e-1f) * square * r + r;
    const Vec even = (square * 2.443315711809948e-5f - 1.388731625493765e-3f) * square + 4.166664568298827e-2f;
    const Vec cosine = even * square * square - square * 0.5f + 1.0f;
    const Vec value = (quarter & 1) != 0 ? cosine : sine;
    return (quarter & 2) != 0 ? -value : value;
}

inline bool is_far(Vec x) {
    bool found = false;
    for (int i = 0; i < WIDTH; ++i) found |= !(x[i] > -8192.0f && x[i] < 8192.0f);
    return found;
}

struct Sin {
    static Vec of(Vec x, float, float) { return is_far(x) ? Lanes<sine>::of(x, 0, 0) : sine_of<0>(x); }
};

struct Cos {
    static Vec of(Vec x, float, float) { return is_far(x) ? Lanes<cosine>::of(x, 0, 0) : sine_of<1>(x); }
};

struct Rsqrt {
    static Vec of(Vec x, float, float) { return all(1.0f) / Sqrt::of(x, 0, 0); }
};

struct Reciprocal {
    static Vec of(Vec x, float, float) { return all(1.0f) / x; }
};

struct Abs {
    static Vec of(Vec x, float, float) { return absolute(x); }
};

struct Sign {
    static Vec of(Vec x, float, float) {
        const Vec zero{}, one = all(1.0f);
        return x > zero ? one : (x < zero ? -one : x);
    }
};

// x to the power of `exponent`.
struct Pow {
    static Vec of(Vec x, float exponent, float) {
        float lanes[WIDTH];
        std::memcpy(lanes, &x, sizeof x);
        for (int i = 0; i < WIDTH; ++i) lanes[i] = std::pow(lanes[i], exponent);
        std::memcpy(&x, lanes, sizeof x);
        return x;
    }
};

struct Softplus {
    static Vec of(Vec x, float, float) {
        const Vec zero{}, one = all(1.0f), power = exp_negative(-absolute(x)), sum = one + power;
        const Vec small = sum - one, log1p = small == zero ? power : Log::of(sum, 0, 0) * (power / small);
        return (x < zero ? zero : x) + log1p;
    }
};

// ── functions with their derivatives ──────────────────────────────────────────────────────────────────────────────

template <class Activation>
struct OfActivation {
    static void of(Vec x, float, float, Vec& value, Vec& derivative) { Activation::of(x, value, derivative); }
};

struct Relu : OfActivation<ReLU> {};
struct Relu6 : OfActivation<ReLU6> {};
struct Silu : OfActivation<SiLU> {};
struct Tanh : OfActivation<::Tanh> {};
struct Sigmoid : OfActivation<::Sigmoid> {};
struct Gelu : OfActivation<GELU> {};

struct LeakyRelu {
    static void of(Vec x, float slope, float, Vec& value, Vec& derivative) { leaky_relu(x, slope, value, derivative); }
};

struct Elu {
    static void of(Vec x, float alpha, float, Vec& value, Vec& derivative) { elu(x, alpha, value, derivative); }
};

// x·s for s = sigmoid(2u), u = √(2/π)·(x + 0.044715·x³).
struct GeluTanh {
    static void of(Vec x, float, float, Vec& value, Vec& derivative) {
        const Vec square = x * x;
        const Vec twice_u = x * (square * 0.0713548162f + 1.5957691216f);
        const Vec slope = square * 0.2140644487f + 1.5957691216f;
        const Vec gate = sigmoid(twice_u);
        value = x * gate;
        derivative = gate + value * sigmoid(-twice_u) * slope;
    }
};

struct Clamp {
    static void of(Vec x, float low, float high, Vec& value, Vec& derivative) {
        const Vec zero{}, one = all(1.0f), least = all(low), most = all(high);
        value = x < least ? least : (x > most ? most : x);
        derivative = x < least ? zero : (x > most ? zero : one);
    }
};

// Clamp, but for the derivative at the bounds.
struct Hardtanh {
    static void of(Vec x, float low, float high, Vec& value, Vec& derivative) {
        const Vec zero{}, one = all(1.0f), least = all(low), most = all(high);
        value = x < least ? least : (x > most ? most : x);
        derivative = x <= least ? zero : (x >= most ? zero : one);
    }
};

}  // namespace functions
}  // namespace
