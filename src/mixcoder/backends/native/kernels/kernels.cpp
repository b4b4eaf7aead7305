// The operations of a training step on the CPU, and a loop over a list of them.
//
//   operations, images ─▶ mixcoder_run ─▶ outputs of the operations: activations, gradients, loss
//
// Python emits a list once for a model (program.py) and runs it at every step, without an interpreter in between.
// Matrices are row-major float32 unless stated otherwise. The headers hold the operations: products.h the gemms,
// elementwise.h the groups of elementwise nodes with their sums. Outputs are overwritten, not accumulated, unless
// stated otherwise.
//
// `codes.h` is generated from codes.py: the numbers of operations, activations and losses, and the optimizers'
// scalars, instructions and functions.

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <cstring>

#include "activations.h"
#include "codes.h"
#include "convolutions.h"
#include "depthwise.h"
#include "fields.h"
#include "movement.h"
#include "newton_schulz.h"
#include "optimizers.h"
#include "products.h"
#include "transposes.h"
#include "vectors.h"

void run_group(const float* descriptor, float* const* operands);  // elementwise.cpp

namespace {

struct Operation {
    int32_t code;
    int32_t n[SIZES];
    float scale;
    float* p[ADDRESSES];
};

// A pixel's value / 255.
struct Levels {
    float of[256];
    constexpr Levels() : of() {
        for (int i = 0; i < 256; ++i) of[i] = i / 255.0f;
    }
};
constexpr Levels LEVELS;

// images (batch, pixels) uint8 ─▶ (patches, batch, channels) in [0, 1]; `index` (patches, channels) holds the
// positions of pixels.
void load_patches(const uint8_t* images, int batch, int pixels, int patches, int channels, const int32_t* index,
                  float* out) {
    for (int p = 0; p < patches; ++p, index += channels)
        for (int b = 0; b < batch; ++b, out += channels) {
            const uint8_t* image = images + (int64_t)b * pixels;
            for (int c = 0; c < channels; ++c) out[c] = LEVELS.of[image[index[c]]];
        }
}

// out = activation(z + bias) (+ residual), for z (rows, columns); z is overwritten by the derivatives.
// The bias has an element for each column, or with `bias_is_of_rows` for each row; `more` arrays follow with the same bias.
template <class Activation>
void activate(int rows, int columns, bool bias_is_of_rows, int more, float* z, const float* bias, const float* residual,
              float* out) {
    for (int row = 0; row < rows * (1 + more); ++row) {
        const Vec bias_of_row = all(bias_is_of_rows ? bias[row % rows] : 0.0f);
        for (int i = 0; i < columns; i += WIDTH) {
            const int64_t at = (int64_t)row * columns + i;
            const int count = columns - i < WIDTH ? columns - i : WIDTH;
            Vec x, value, derivative;
            if (count == WIDTH) {
                x = load(z + at) + (bias_is_of_rows ? bias_of_row : load(bias + i));
                Activation::of(x, value, derivative);
                if (residual) value += load(residual + at);
                if (Activation::HAS_DERIVATIVE) store(z + at, derivative);
                store(out + at, value);
            } else {
                x = load(z + at, count) + (bias_is_of_rows ? bias_of_row : load(bias + i, count));
                Activation::of(x, value, derivative);
                if (residual) value += load(residual + at, count);
                if (Activation::HAS_DERIVATIVE) store(z + at, derivative, count);
                store(out + at, value, count);
            }
        }
    }
}

// derivatives (rows, columns) are overwritten by the gradients of z, and `bias` by their sums by column, or by row.
// Without derivatives the gradients of z are `gradient` itself. `more` arrays follow, whose sums are added.
void activate_backward(int rows, int columns, bool bias_is_of_rows, int more, const float* gradient, float* derivative,
                       float* bias) {
    std::memset(bias, 0, (bias_is_of_rows ? rows : columns) * sizeof(float));
    for (int row = 0; row < rows * (1 + more); ++row) {
        Vec total{};
        for (int i = 0; i < columns; i += WIDTH) {
            const int64_t at = (int64_t)row * columns + i;
            const int count = columns - i < WIDTH ? columns - i : WIDTH;
            if (count == WIDTH) {
                Vec dz = load(gradient + at);
                if (derivative) store(derivative + at, dz *= load(derivative + at));
                if (bias_is_of_rows) total += dz;
                else store(bias + i, load(bias + i) + dz);
            } else {
                Vec dz = load(gradient + at, count);
                if (derivative) store(derivative + at, dz *= load(derivative + at, count), count);
                if (bias_is_of_rows) total += dz;
                else store(bias + i, load(bias + i, count) + dz, count);
            }
        }
        if (bias_is_of_rows) bias[row % rows] += sum(total);
    }
}

// The loss of a difference, and its derivative.
inline void deviation(int kind, Vec x, Vec& value, Vec& derivative) {
    const Vec one = all(1.0f), zero{}, size = absolute(x);
    const Vec sign = x > zero ? one : x < zero ? -one : zero;
    switch (kind) {
        case MSE: value = x * x, derivative = x + x; break;
        case L1: value = size, derivative = sign; break;
        default: value = size < one ? x * x * 0.5f : size - 0.5f, derivative = size < one ? x : sign;
    }
}

// outputs are overwritten by their gradients: `scale` times the derivative of the loss. `total` is scale times the sum
// of the losses.
void loss(int count, int kind, float scale, float* outputs, const float* inputs, float* total) {
    double sums = 0;
    for (int start = 0; start < count; start += 4096) {  // single precision over a few elements, double over all
        const int end = start + 4096 < count ? start + 4096 : count;
        Vec partial{};
        for (int i = start; i < end; i += WIDTH) {
            const int left = end - i < WIDTH ? end - i : WIDTH;
            Vec value, derivative;
            if (left == WIDTH) {
                deviation(kind, load(outputs + i) - load(inputs + i), value, derivative);
                store(outputs + i, derivative * scale);
            } else {
                deviation(kind, load(outputs + i, left) - load(inputs + i, left), value, derivative);
                store(outputs + i, derivative * scale, left);
            }
            partial += value;
        }
        sums += sum(partial);
    }
    *total = (float)(sums * scale);
}

// out += x.
void add(int count, const float* x, float* out) {
    for (int i = 0; i < count; ++i) out[i] += x[i];
}

// Returns true once `parties` threads have called it with this counter equally often, and false when the counter holds
// ABANDONED: then one of the threads will not arrive.
bool barrier(int parties, std::atomic<int64_t>* calls) {
    const int64_t all = (calls->fetch_add(1) / parties + 1) * parties;
    int64_t now = calls->load();
    for (int i = 0; now < all && now < ABANDONED; now = calls->load())
        if (++i > 1000) sched_yield();  // there may be fewer processors than threads
    return now < ABANDONED;
}

// x (rows, columns) ─▶ (rows, margin + columns + margin), whose margins hold zeros already.
void pad(int rows, int columns, int margin, const float* x, float* out) {
    for (int row = 0; row < rows; ++row)
        std::memcpy(out + (int64_t)row * (columns + 2 * margin) + margin, x + (int64_t)row * columns,
                    columns * sizeof(float));
}

// weights (outer, inner, taps) ─▶ (inner, outer, taps) with the taps in reverse: the weights of the backward
// convolution.
void reverse_taps(int outer, int inner, int taps, const float* weights, float* out) {
    for (int o = 0; o < outer; ++o)
        for (int i = 0; i < inner; ++i)
            for (int t = 0; t < taps; ++t)
                out[((int64_t)i * outer + o) * taps + t] = weights[((int64_t)o * inner + i) * taps + taps - 1 - t];
}

// memcpy, inlined for the few bytes of a row.
inline void copy(int64_t bytes, const char* from, char* to) {
    int64_t i = 0;
    for (; i + 32 <= bytes; i += 32) std::memcpy(to + i, from + i, 32);
    if (i < bytes) std::memcpy(to + i, from + i, bytes - i);
}

// A convolution over a field (height, width) with one vector (width, channels) for each row: the map from a row to the
// one dy further up is a Toeplitz matrix (width·channels, width·channels). Its blocks (channels, channels) are taps:
// block (x, x + dx) is the tap of dx, or zeros where |dx| > reach.
//
// taps (2·reach + 1, stride) of one dy, each (channels, channels) of elements of `bytes` ─▶ the matrix, whose other
// blocks hold zeros already.
void toeplitz(int channels, int width, int reach, int stride, int bytes, const char* taps, char* matrix) {
    const int64_t line = (int64_t)channels * bytes, side = line * width;
    for (int dx = -reach; dx <= reach; ++dx, taps += (int64_t)stride * bytes)
        for (int x = dx > 0 ? 0 : -dx; x < width && x + dx < width; ++x)
            for (int o = 0; o < channels; ++o)
                copy(line, taps + o * line, matrix + (x * channels + o) * side + (x + dx) * line);
}

// The adjoint: gradients of the matrix ─▶ gradients of the taps.
void toeplitz_adjoint(int channels, int width, int reach, int stride, const float* matrix, float* tap) {
    const int64_t side = (int64_t)channels * width;
    for (int dx = -reach; dx <= reach; ++dx, tap += stride)
        for (int o = 0; o < channels; ++o) {
            const int first = dx > 0 ? 0 : -dx, end = dx > 0 ? width - dx : width;
            const float* from = matrix + (first * channels + o) * side + (first + dx) * channels;
            const int64_t next = channels * side + channels;
            for (int i = 0; i < channels; i += WIDTH) {
                const int count = channels - i < WIDTH ? channels - i : WIDTH;
                Vec total{};
                for (int x = 0; x < end - first; ++x)
                    total += count == WIDTH ? load(from + x * next + i) : load(from + x * next + i, count);
                float* to = tap + o * channels + i;
                if (count == WIDTH) store(to, total);
                else store(to, total, count);
            }
        }
}

// The numbers of an operation as a struct.
template <class Sizes>
Sizes as_sizes(const int32_t* n) {
    Sizes sizes;
    std::memcpy(&sizes, n, sizeof sizes);
    return sizes;
}

}  // namespace

#define ACTIVATE_AS(activation) activate<activation>,
constexpr decltype(&activate<Identity>) ACTIVATE_TABLE[] = {ACTIVATIONS(ACTIVATE_AS)};

// The BLAS's gemms; null for our own.
extern "C" void mixcoder_set_blas(void* float32, void* bfloat16) {
    sgemm = reinterpret_cast<Sgemm>(float32);
    gemm_bf16 = reinterpret_cast<GemmBf16>(bfloat16);
}

// Flushes denormals to zero during its lifetime: a processor takes a hundred times as long for them, and the
// derivatives of saturated activations are full of them.
struct WithoutDenormals {
#ifdef __SSE__
    const unsigned before = __builtin_ia32_stmxcsr();
    WithoutDenormals() { __builtin_ia32_ldmxcsr(before | 0x8040); }
    ~WithoutDenormals() { __builtin_ia32_ldmxcsr(before); }
#endif
};

extern "C" void mixcoder_run(const Operation* operations, int count, const uint8_t* images) {
    const WithoutDenormals fast{};
    for (const Operation* operation = operations; operation < operations + count; ++operation) {
        const int32_t* n = operation->n;
        float* const* p = operation->p;
        const float scale = operation->scale;
        switch (operation->code) {
            case LOAD_PATCHES:
                load_patches(images, n[0], n[1], n[2], n[3], reinterpret_cast<const int32_t*>(p[0]), p[1]);
                break;
            case GEMM: multiply<float>(n, p, scale); break;
            case GEMM_BF16: multiply<BFloat16>(n, p, scale); break;
            case GEMM_BATCH: multiply_batch<float>(n, p, scale); break;
            case GEMM_BATCH_BF16: multiply_batch<BFloat16>(n, p, scale); break;
            case TO_BF16: to_bf16(n[0], p[0], reinterpret_cast<BFloat16*>(p[1])); break;
            case ACTIVATE: ACTIVATE_TABLE[n[3]](n[0], n[1], n[2], n[4], p[0], p[1], p[2], p[3]); break;
            case ACTIVATE_BACKWARD: activate_backward(n[0], n[1], n[2], n[3], p[0], p[1], p[2]); break;
            case LOSS: loss(n[0], n[1], scale, p[0], p[1], p[2]); break;
            case TRANSPOSE: transpose(n[0], n[1], n[2], n[3], p[0], p[1]); break;
            case MOVE: move(*reinterpret_cast<const Move*>(p[0]), n[0], p[1], p[2]); break;
            case PERMUTE:
                permute(n[0], n[1], n[2], n[3], {n[4], n[5], n[6]}, {n[7], n[8], n[9]}, n[10], p[0], p[1]);
                break;
            case TOEPLITZ:
                toeplitz(n[0], n[1], n[2], n[3], n[4], reinterpret_cast<const char*>(p[0]),
                         reinterpret_cast<char*>(p[1]));
                break;
            case TOEPLITZ_ADJOINT: toeplitz_adjoint(n[0], n[1], n[2], n[3], p[0], p[1]); break;
            case PAD: pad(n[0], n[1], n[2], p[0], p[1]); break;
            case REVERSE_TAPS: reverse_taps(n[0], n[1], n[2], p[0], p[1]); break;
            case CONVOLVE: convolve(n[0], n[1], n[2], n[3], n[4], n[5], p[0], p[1], p[2]); break;
            case CORRELATE: correlate(n[0], n[1], n[2], n[3], n[4], p[0], p[1], p[2]); break;
            case DEPTHWISE:
                depthwise(*reinterpret_cast<const DepthwisePlan*>(p[0]), n[0], p[1], p[2], p[3]);
                break;
            case DEPTHWISE_CORRELATE:
                depthwise_correlate(*reinterpret_cast<const DepthwisePlan*>(p[0]), p[1], p[2], p[3]);
                break;
            case PAIR_ROWS: pair_rows(n[0], n[1], p[0], p[1]); break;
            case CONVOLVE_FIELD: convolve_field(as_sizes<FieldSizes>(n), p[0], p[1], scale, p[2]); break;
            case CONVOLVE_FIELD_BF16:
                convolve_field(as_sizes<FieldSizes>(n), reinterpret_cast<const BFloat16*>(p[0]), p[1], scale, p[2]);
                break;
            case CORRELATE_FIELD: correlate_field<float>(as_sizes<FieldSizes>(n), p[0], p[1], p[2], p[3]); break;
            case CORRELATE_FIELD_BF16:
                correlate_field(as_sizes<FieldSizes>(n), reinterpret_cast<const BFloat16*>(p[0]),
                                reinterpret_cast<const BFloat16*>(p[1]), p[2], p[3]);
                break;
            case ADD: add(n[0], p[0], p[1]); break;
            case ELEMENTWISE: run_group(p[0], p + 1); break;
            case BARRIER:
                if (!barrier(n[0], reinterpret_cast<std::atomic<int64_t>*>(p[0]))) return;
                break;
            case ADAMW: adamw(n[0], *reinterpret_cast<const AdamWScalars*>(p[4]), p[0], p[1], p[2], p[3]); break;
            case SGD: sgd(n[0], *reinterpret_cast<const SgdScalars*>(p[3]), p[0], p[1], p[2]); break;
            case MOMENTUM: nesterov(n[0], scale, p[0], p[1], p[2]); break;
            case ORTHOGONAL_UPDATE:
                orthogonal_updates(n[0], {n[1], n[2]}, n[3], *reinterpret_cast<const MuonScalars*>(p[2]), scale, p[1],
                                   p[3], p[0]);
                break;
            case AVERAGE: average(n[0], *p[2], p[0], p[1]); break;
            case SUM_SQUARES: *reinterpret_cast<double*>(p[1]) = sum_squares(n[0], p[0]); break;
            case CLIP_FACTOR: *p[1] = clip_factor(n[0], scale, reinterpret_cast<const double*>(p[0])); break;
            case SCALE: scale_by(n[0], *p[1], p[0]); break;
        }
    }
}
