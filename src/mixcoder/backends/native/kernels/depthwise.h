// Convolutions in which each channel has a kernel of its own, over a field of few positions.
//
//   source (positions, batch, channels), weights (taps, channels) ─▶ target (positions, batch, channels)
//
// A plan names for each position of the target the positions of the source and the taps that make it: so one kernel
// serves convolutions of every stride and dilation, and their adjoints.
#pragma once

#include <cstdint>
#include <cstring>

#include "vectors.h"

namespace {

struct Term {
    int32_t position, tap;
};

// Followed by the index of each position's first term, one more of all terms, and the terms.
struct DepthwisePlan {
    int32_t positions, batch, channels, taps;
    const int32_t* starts() const { return &taps + 1; }
    const Term* terms() const { return reinterpret_cast<const Term*>(starts() + positions + 1); }
};

// At most WIDTH elements; all of them where that is known.
template <bool IS_WHOLE>
inline Vec load_few(const float* from, int count) {
    return IS_WHOLE ? load(from) : load(from, count);
}

// A vector of channels of IMAGES images, at one position.
template <int IMAGES, bool IS_WHOLE>
inline void depthwise_block(const DepthwisePlan& plan, const Term* term, const Term* end, int count, bool is_added,
                            const float* weights, const float* source, float* target) {
    const int64_t position = (int64_t)plan.batch * plan.channels;
    Vec sums[IMAGES];
    for (int i = 0; i < IMAGES; ++i)
        sums[i] = is_added ? load_few<IS_WHOLE>(target + i * plan.channels, count) : Vec{};
    for (; term < end; ++term) {
        const Vec weight = load_few<IS_WHOLE>(weights + term->tap * plan.channels, count);
        const float* x = source + term->position * position;
#pragma GCC unroll 8
        for (int i = 0; i < IMAGES; ++i) sums[i] += weight * load_few<IS_WHOLE>(x + i * plan.channels, count);
    }
    for (int i = 0; i < IMAGES; ++i) store(target + i * plan.channels, sums[i], count);
}

template <int IMAGES>
inline void depthwise_channels(const DepthwisePlan& plan, const Term* term, const Term* end, bool is_added,
                               const float* weights, const float* source, float* target) {
    int c = 0;
    for (; c + WIDTH <= plan.channels; c += WIDTH)
        depthwise_block<IMAGES, true>(plan, term, end, WIDTH, is_added, weights + c, source + c, target + c);
    if (c < plan.channels)
        depthwise_block<IMAGES, false>(plan, term, end, plan.channels - c, is_added, weights + c, source + c,
                                       target + c);
}

inline void depthwise(const DepthwisePlan& plan, bool is_added, const float* weights, const float* source,
                      float* target) {
    constexpr int IMAGES = 8;
    const int32_t* starts = plan.starts();
    for (int position = 0; position < plan.positions; ++position) {
        const Term *term = plan.terms() + starts[position], *end = plan.terms() + starts[position + 1];
        int image = 0;
        for (; image + IMAGES <= plan.batch; image += IMAGES, target += IMAGES * plan.channels)
            depthwise_channels<IMAGES>(plan, term, end, is_added, weights, source + (int64_t)image * plan.channels,
                                       target);
        for (; image < plan.batch; ++image, target += plan.channels)
            depthwise_channels<1>(plan, term, end, is_added, weights, source + (int64_t)image * plan.channels, target);
    }
}

// weights (taps, channels) = for each term the sums over images of `gradients`, at the position of the plan, times
// `source` at the term's.
inline void depthwise_correlate(const DepthwisePlan& plan, const float* gradients, const float* source,
                                float* weights) {
    constexpr int SUMS = 4;
    const int64_t size = (int64_t)plan.batch * plan.channels;
    std::memset(weights, 0, (int64_t)plan.taps * plan.channels * sizeof(float));
    for (int position = 0; position < plan.positions; ++position, gradients += size)
        for (int c = 0; c < plan.channels; c += WIDTH) {
            const int count = plan.channels - c < WIDTH ? plan.channels - c : WIDTH;
            const Term *term = plan.terms() + plan.starts()[position], *end = plan.terms() + plan.starts()[position + 1];
            for (; term < end; ++term) {
                const float *z = gradients + c, *x = source + term->position * size + c;
                Vec sums[SUMS] = {};
                int image = 0;
                for (; count == WIDTH && image + SUMS <= plan.batch; image += SUMS)
#pragma GCC unroll 4
                    for (int i = 0; i < SUMS; ++i, z += plan.channels, x += plan.channels) sums[i] += load(z) * load(x);
                for (; image < plan.batch; ++image, z += plan.channels, x += plan.channels)
                    sums[0] += load(z, count) * load(x, count);
                float* to = weights + (int64_t)term->tap * plan.channels + c;
                store(to, load(to, count) + ((sums[0] + sums[1]) + (sums[2] + sums[3])), count);
            }
        }
}

}  // namespace
