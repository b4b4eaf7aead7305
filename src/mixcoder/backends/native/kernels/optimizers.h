// The updates of parameters.
#pragma once

#include <cstdint>
#include <cstring>

#include "codes.h"
#include "vectors.h"

namespace {

// AdamW (arXiv 1711.05101) on `count` parameters, in torch's order of operations.
void adamw(int count, const AdamWScalars& scalars, float* parameter, const float* gradient, float* exp_avg,
           float* exp_avg_sq) {
    for (int i = 0; i < count; ++i) {
        const float g = gradient[i];
        const float m = exp_avg[i] + (g - exp_avg[i]) * scalars.one_minus_beta1;
        const float s = exp_avg_sq[i] + (g * g - exp_avg_sq[i]) * scalars.one_minus_beta2;
        exp_avg[i] = m;
        exp_avg_sq[i] = s;
        parameter[i] = parameter[i] * scalars.weight_decay_factor -
                       scalars.step_size * m / (__builtin_sqrtf(s) * scalars.bias_correction2_factor + scalars.eps);
    }
}

// SGD with Nesterov momentum, in torch's order of operations; `momentum` is the decaying sum of gradients.
void sgd(int count, const SgdScalars& scalars, float* parameter, const float* gradient, float* momentum) {
    for (int i = 0; i < count; ++i) {
        const float g = gradient[i] + scalars.weight_decay * parameter[i];
        const float m = momentum[i] * scalars.momentum + g;
        momentum[i] = m;
        parameter[i] -= scalars.learning_rate * (g + scalars.momentum * m);
    }
}

// Nesterov momentum as Muon has it: gradient ─▶ its moving average ─▶ out, which may be the gradient.
void nesterov(int count, float decay, const float* gradient, float* moving_average, float* out) {
#pragma GCC ivdep
    for (int i = 0; i < count; ++i) {
        const float g = gradient[i];
        const float m = moving_average[i] + (g - moving_average[i]) * (1 - decay);
        moving_average[i] = m;
        out[i] = m + (g - m) * (1 - decay);
    }
}

// The moving average of the parameters comes nearer to them by a factor.
void average(int count, float factor, const float* parameter, float* moving_average) {
    for (int i = 0; i < count; ++i) moving_average[i] += (parameter[i] - moving_average[i]) * factor;
}

// The sum of squares, in double precision over blocks of single precision.
double sum_squares(int64_t count, const float* x) {
    double total = 0;
    for (int64_t start = 0; start < count; start += 4096) {
        const int64_t end = start + 4096 < count ? start + 4096 : count;
        Vec partial{};
        int64_t i = start;
        for (; i + WIDTH <= end; i += WIDTH) partial += load(x + i) * load(x + i);
        if (i < end) partial += load(x + i, end - i) * load(x + i, end - i);
        total += sum(partial);
    }
    return total;
}

// Sums of squares of all gradients' parts ─▶ the factor that scales gradients down to the largest norm.
float clip_factor(int parts, float largest, const double* sums) {
    double total = 0;
    for (int i = 0; i < parts; ++i) total += sums[i];
    const float factor = largest / ((float)__builtin_sqrt(total) + ADDED_TO_NORM);
    return factor > 1 ? 1 : factor;  // NaN stays NaN
}

// x *= factor.
void scale_by(int count, float factor, float* x) {
    for (int i = 0; i < count; ++i) x[i] *= factor;
}

}  // namespace
