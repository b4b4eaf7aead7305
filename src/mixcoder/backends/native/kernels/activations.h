// The activations: each a struct of the name in codes.py.
#pragma once

#include "vectors.h"

namespace {

// An activation: its value at a pre-activation z, and its derivative there; a derivative that is 1 everywhere is not
// stored. NaN stays NaN: comparisons select the values below a bound, and pass all others on.
struct Identity {
    static constexpr bool HAS_DERIVATIVE = false;
    static void of(Vec z, Vec& value, Vec& derivative) {
        value = z;
        derivative = all(1.0f);
    }
};

struct ReLU {
    static constexpr bool HAS_DERIVATIVE = true;
    static void of(Vec z, Vec& value, Vec& derivative) {
        const Vec zero{}, one = all(1.0f);
        value = z <= zero ? zero : z;
        derivative = z <= zero ? zero : one;
    }
};

struct ReLU6 {
    static constexpr bool HAS_DERIVATIVE = true;
    static void of(Vec z, Vec& value, Vec& derivative) {
        const Vec zero{}, one = all(1.0f), six = all(6.0f);
        value = z <= zero ? zero : (z >= six ? six : z);
        derivative = z <= zero ? zero : (z >= six ? zero : one);
    }
};

// z above 0, slope · z below.
inline void leaky_relu(Vec z, float slope, Vec& value, Vec& derivative) {
    const Vec zero{}, one = all(1.0f);
    derivative = z > zero ? one : all(slope);
    value = z * derivative;
}

struct LeakyReLU {
    static constexpr bool HAS_DERIVATIVE = true;
    static void of(Vec z, Vec& value, Vec& derivative) { leaky_relu(z, 0.01f, value, derivative); }
};

// z above 0, alpha · (exp(z) - 1) below.
inline void elu(Vec z, float alpha, Vec& value, Vec& derivative) {
    const Vec zero{}, one = all(1.0f), power = exp_negative(z < zero ? z : zero) * alpha;
    value = z <= zero ? power - alpha : z;
    derivative = z > zero ? one : power;
}

struct ELU {
    static constexpr bool HAS_DERIVATIVE = true;
    static void of(Vec z, Vec& value, Vec& derivative) { elu(z, 1.0f, value, derivative); }
};

// 1 / (1 + exp(-z))
inline Vec sigmoid(Vec z) {
    const Vec zero{}, one = all(1.0f), power = exp_negative(-absolute(z));
    return (z > zero ? one : power) / (one + power);
}

struct SiLU {
    static constexpr bool HAS_DERIVATIVE = true;
    static void of(Vec z, Vec& value, Vec& derivative) {
        const Vec gate = sigmoid(z);
        value = z * gate;
        derivative = gate + value * sigmoid(-z);
    }
};

struct Tanh {
    static constexpr bool HAS_DERIVATIVE = true;
    static void of(Vec z, Vec& value, Vec& derivative) {
        const Vec zero{}, one = all(1.0f), power = exp_negative(absolute(z) * -2.0f), inverse = one / (one + power);
        const Vec size = (one - power) * inverse;
        value = z > zero ? size : -size;
        derivative = power * inverse * inverse * 4.0f;
    }
};

struct Sigmoid {
    static constexpr bool HAS_DERIVATIVE = true;
    static void of(Vec z, Vec& value, Vec& derivative) {
        value = sigmoid(z);
        derivative = value * sigmoid(-z);
    }
};

// z·Φ(z) and Φ(z) + z·φ(z). The tail of the normal distribution is φ(|z|) times a polynomial in 1/(1 + 0.3|z|),
// fitted to a relative error of 1.2e-7 as far as z = 13 (the form is Hastings's, 1955).
struct GELU {
    static constexpr bool HAS_DERIVATIVE = true;
    static void of(Vec z, Vec& value, Vec& derivative) {
        const Vec zero{}, one = all(1.0f);
        const Vec t = one / (absolute(z) * 0.3f + 1.0f);
        const Vec density = exp_negative(z * z * -0.5f);
        Vec p = all(TAIL[7]);
        for (int i = 6; i >= 0; --i) p = p * t + TAIL[i];
        const Vec tail = p * t * density;
        const Vec below = z > zero ? one - tail : tail;
        value = z * below;
        derivative = below + z * density * 0.3989422804f;
    }
    static constexpr float TAIL[8] = {0.11962322f, 0.12084625f, 0.09934271f, 0.1304307f, -0.05719359f, 0.21014596f, -0.1593937f, 0.03619838f};
};

// Clips to [0, 1], and adds a tenth of the excess.
struct Clamp {
    static constexpr bool HAS_DERIVATIVE = true;
    static void of(Vec z, Vec& value, Vec& derivative) {
        const Vec zero{}, one = all(1.0f), leak = all(0.1f);
        const Vec clipped = z < zero ? zero : (z > one ? one : z);
        value = clipped + (z - clipped) * leak;
        derivative = z < zero ? leak : (z > one ? leak : one);
    }
};

}  // namespace
