// The operations of a training step on the CPU, and a loop over a list of them.
//
//   operations, images ─▶ mixcoder_run ─▶ what they write: activations, gradients, loss
//
// A list is made once for a model (tape.py) and run at every step, without an interpreter in between. Matrices are
// row-major float32, where nothing else is said. Products are left to the BLAS that torch carries; what stands between
// them is done here in one pass each. What an operation says that it writes, it writes anew, not added to what was
// there.

#include <cstdint>
#include <cstring>

namespace {

// Vectors of the compiler's own, 16 numbers wide on every processor; loads need no alignment.
typedef float Vec __attribute__((vector_size(64)));
typedef int32_t IntVec __attribute__((vector_size(64)));
typedef float LooseVec __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int WIDTH = 16;

inline Vec load(const float* from) { return *reinterpret_cast<const LooseVec*>(from); }
inline void store(float* to, Vec value) { *reinterpret_cast<LooseVec*>(to) = value; }
inline Vec all(float value) { return value - Vec{}; }

// Fewer than WIDTH numbers, the rest zeros.
inline Vec load(const float* from, int count) {
    Vec value{};
    std::memcpy(&value, from, count * sizeof(float));
    return value;
}
inline void store(float* to, Vec value, int count) { std::memcpy(to, &value, count * sizeof(float)); }

// bfloat16: the upper half of a float32, here in integers of 16 bits, rounded to the nearest, from halfway to even.
typedef uint16_t Rounded;
inline Rounded rounded(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline void assign(float& to, float value) { to = value; }
inline void assign(Rounded& to, float value) { to = rounded(value); }

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

// An activation: its value of z, and its slope there; where that is 1 everywhere it need not be kept.
struct Identity {
    static constexpr bool HAS_SLOPE = false;
    static void of(Vec z, Vec& value, Vec& slope) {
        value = z;
        slope = all(1.0f);
    }
};

struct Relu {
    static constexpr bool HAS_SLOPE = true;
    static void of(Vec z, Vec& value, Vec& slope) {
        const Vec zero{}, one = all(1.0f);
        value = z > zero ? z : zero;
        slope = z > zero ? one : zero;
    }
};

struct Relu6 {
    static constexpr bool HAS_SLOPE = true;
    static void of(Vec z, Vec& value, Vec& slope) {
        const Vec zero{}, one = all(1.0f), six = all(6.0f);
        value = z > zero ? (z < six ? z : six) : zero;
        slope = z > zero ? (z < six ? one : zero) : zero;
    }
};

struct LeakyRelu {
    static constexpr bool HAS_SLOPE = true;
    static void of(Vec z, Vec& value, Vec& slope) {
        const Vec zero{}, one = all(1.0f), leak = all(0.01f);
        slope = z > zero ? one : leak;
        value = z * slope;
    }
};

struct Elu {
    static constexpr bool HAS_SLOPE = true;
    static void of(Vec z, Vec& value, Vec& slope) {
        const Vec zero{}, one = all(1.0f), power = exp_negative(z < zero ? z : zero);
        value = z > zero ? z : power - one;
        slope = z > zero ? one : power;
    }
};

// 1 / (1 + exp(-z))
inline Vec sigmoid(Vec z) {
    const Vec zero{}, one = all(1.0f), power = exp_negative(-absolute(z));
    return (z > zero ? one : power) / (one + power);
}

struct Silu {
    static constexpr bool HAS_SLOPE = true;
    static void of(Vec z, Vec& value, Vec& slope) {
        const Vec share = sigmoid(z);
        value = z * share;
        slope = share + value * sigmoid(-z);
    }
};

struct Tanh {
    static constexpr bool HAS_SLOPE = true;
    static void of(Vec z, Vec& value, Vec& slope) {
        const Vec zero{}, one = all(1.0f), power = exp_negative(absolute(z) * -2.0f), inverse = one / (one + power);
        const Vec size = (one - power) * inverse;
        value = z > zero ? size : -size;
        slope = power * inverse * inverse * 4.0f;
    }
};

struct Sigmoid {
    static constexpr bool HAS_SLOPE = true;
    static void of(Vec z, Vec& value, Vec& slope) {
        value = sigmoid(z);
        slope = value * sigmoid(-z);
    }
};

// z·Φ(z) and Φ(z) + z·φ(z). The tail of the normal distribution is φ(|z|) times a polynomial in 1/(1 + 0.3|z|),
// fitted to a relative error of 1.2e-7 as far as z = 13 (the form is Hastings's, 1955).
struct Gelu {
    static constexpr bool HAS_SLOPE = true;
    static void of(Vec z, Vec& value, Vec& slope) {
        const Vec zero{}, one = all(1.0f);
        const Vec t = one / (absolute(z) * 0.3f + 1.0f);
        const Vec density = exp_negative(z * z * -0.5f);
        Vec p = all(TAIL[7]);
        for (int i = 6; i >= 0; --i) p = p * t + TAIL[i];
        const Vec tail = p * t * density;
        const Vec below = z > zero ? one - tail : tail;
        value = z * below;
        slope = below + z * density * 0.3989422804f;
    }
    static constexpr float TAIL[8] = {0.11962322f, 0.12084625f, 0.09934271f, 0.1304307f, -0.05719359f, 0.21014596f, -0.1593937f, 0.03619838f};
};

struct Operation {
    int32_t code;
    int32_t n[9];
    float scale;
    int32_t unused;
    float* p[5];
};

typedef void (*Sgemm)(const char*, const char*, const int*, const int*, const int*, const float*, const float*,
                      const int*, const float*, const int*, const float*, float*, const int*);
typedef void (*GemmRounded)(const char*, const char*, const int*, const int*, const int*, const float*, const Rounded*,
                            const int*, const Rounded*, const int*, const float*, float*, const int*);
Sgemm sgemm;
GemmRounded gemm_rounded;

// What a pixel is as a number: value / 255.
struct Levels {
    float of[256];
    constexpr Levels() : of() {
        for (int i = 0; i < 256; ++i) of[i] = i / 255.0f;
    }
};
constexpr Levels LEVELS;

// images (batch, pixels) uint8 ─▶ (patches, batch, breadth) in [0, 1]; `index` says which pixel.
void input(const uint8_t* images, int batch, int pixels, int patches, int breadth, const int32_t* index, float* out) {
    for (int p = 0; p < patches; ++p, index += breadth)
        for (int b = 0; b < batch; ++b, out += breadth) {
            const uint8_t* image = images + (int64_t)b * pixels;
            for (int c = 0; c < breadth; ++c) out[c] = LEVELS.of[image[index[c]]];
        }
}

// c (m, n) = op(a) op(b) + beta c. The BLAS counts by columns: it is asked for the transposed product.
template <class Number, class Gemm>
void product(Gemm gemm, bool a_is_transposed, bool b_is_transposed, int m, int n, int k, const float* a, int lda,
             const float* b, int ldb, float beta, float* c, int ldc) {
    const float one = 1.0f;
    gemm(b_is_transposed ? "T" : "N", a_is_transposed ? "T" : "N", &n, &m, &k, &one,
         reinterpret_cast<const Number*>(b), &ldb, reinterpret_cast<const Number*>(a), &lda, &beta, c, &ldc);
}

// x ─▶ the same numbers in bfloat16.
void round(int count, const float* x, Rounded* out) {
    for (int i = 0; i < count; ++i) out[i] = rounded(x[i]);
}

// z (rows, columns) + bias ─▶ out = activation (+ residual); z becomes the slopes.
// The bias is one for each column, or where `bias_is_of_rows` one for each row.
template <class Activation>
void activate(int rows, int columns, bool bias_is_of_rows, float* z, const float* bias, const float* residual,
              float* out) {
    for (int row = 0; row < rows; ++row) {
        for (int i = 0; i < columns; i += WIDTH) {
            const int64_t at = (int64_t)row * columns + i;
            const int count = columns - i < WIDTH ? columns - i : WIDTH;
            Vec x, value, slope;
            if (count == WIDTH) {
                x = load(z + at) + (bias_is_of_rows ? all(bias[row]) : load(bias + i));
                Activation::of(x, value, slope);
                if (residual) value += load(residual + at);
                if (Activation::HAS_SLOPE) store(z + at, slope);
                store(out + at, value);
            } else {
                x = load(z + at, count) + (bias_is_of_rows ? all(bias[row]) : load(bias + i, count));
                Activation::of(x, value, slope);
                if (residual) value += load(residual + at, count);
                if (Activation::HAS_SLOPE) store(z + at, slope, count);
                store(out + at, value, count);
            }
        }
    }
}

// slopes (rows, columns) ─▶ gradients of z; their sums by column, or by row, are those of the bias.
// Without slopes the gradients of z are those given.
void activate_back(int rows, int columns, bool bias_is_of_rows, const float* gradient, float* slope, float* bias) {
    if (!bias_is_of_rows) std::memset(bias, 0, columns * sizeof(float));
    for (int row = 0; row < rows; ++row) {
        Vec total{};
        for (int i = 0; i < columns; i += WIDTH) {
            const int64_t at = (int64_t)row * columns + i;
            const int count = columns - i < WIDTH ? columns - i : WIDTH;
            if (count == WIDTH) {
                Vec back = load(gradient + at);
                if (slope) store(slope + at, back *= load(slope + at));
                if (bias_is_of_rows) total += back;
                else store(bias + i, load(bias + i) + back);
            } else {
                Vec back = load(gradient + at, count);
                if (slope) store(slope + at, back *= load(slope + at, count), count);
                if (bias_is_of_rows) total += back;
                else store(bias + i, load(bias + i, count) + back, count);
            }
        }
        if (bias_is_of_rows) bias[row] = sum(total);
    }
}

enum Loss { MSE, L1, HUBER };

// The loss of a difference, and its slope.
inline void deviation(int kind, Vec x, Vec& value, Vec& slope) {
    const Vec one = all(1.0f), zero{}, size = absolute(x);
    const Vec sign = x > zero ? one : x < zero ? -one : zero;
    switch (kind) {
        case MSE: value = x * x, slope = x + x; break;
        case L1: value = size, slope = sign; break;
        default: value = size < one ? x * x * 0.5f : size - 0.5f, slope = size < one ? x : sign;
    }
}

// outputs ─▶ their gradients, `scale` times the derivative of the loss; the loss is scale times its sum.
void loss(int count, int kind, float scale, float* outputs, const float* inputs, float* total) {
    double all_of_it = 0;
    for (int start = 0; start < count; start += 4096) {  // single precision over few numbers, double over all
        const int end = start + 4096 < count ? start + 4096 : count;
        Vec part{};
        for (int i = start; i < end; i += WIDTH) {
            const int left = end - i < WIDTH ? end - i : WIDTH;
            Vec value, slope;
            if (left == WIDTH) {
                deviation(kind, load(outputs + i) - load(inputs + i), value, slope);
                store(outputs + i, slope * scale);
            } else {
                deviation(kind, load(outputs + i, left) - load(inputs + i, left), value, slope);
                store(outputs + i, slope * scale, left);
            }
            part += value;
        }
        all_of_it += sum(part);
    }
    *total = (float)(all_of_it * scale);
}

// x (blocks, outer, middle, inner, columns) ─▶ (blocks, inner, middle, outer, columns), or added to what is there.
void swap(int blocks, int outer, int middle, int inner, int columns, bool is_added, const float* x, float* out) {
    const int64_t size = (int64_t)outer * middle * inner * columns;
    for (int block = 0; block < blocks; ++block, out += size)
        for (int o = 0; o < outer; ++o)
            for (int m = 0; m < middle; ++m)
                for (int i = 0; i < inner; ++i, x += columns) {
                    float* to = out + (((int64_t)i * middle + m) * outer + o) * columns;
                    if (!is_added) std::memcpy(to, x, columns * sizeof(float));
                    else
                        for (int c = 0; c < columns; ++c) to[c] += x[c];
                }
}

// x (blocks, rows, columns) ─▶ (blocks, columns, rows).
void turn(int blocks, int rows, int columns, const float* x, float* out) {
    const int64_t size = (int64_t)rows * columns;
    for (int block = 0; block < blocks; ++block, x += size, out += size)
        for (int c = 0; c < columns; ++c)
            for (int r = 0; r < rows; ++r) out[c * rows + r] = x[r * columns + c];
}

// x (rows, columns) ─▶ (rows, margin + columns + margin) with zeros around; the zeros are there already.
void pad(int rows, int columns, int margin, const float* x, float* out) {
    for (int row = 0; row < rows; ++row)
        std::memcpy(out + (int64_t)row * (columns + 2 * margin) + margin, x + (int64_t)row * columns,
                    columns * sizeof(float));
}

// weights (outer, inner, taps) ─▶ (inner, outer, taps), the taps in reverse: those of the way back.
void reverse(int outer, int inner, int taps, const float* weights, float* out) {
    for (int o = 0; o < outer; ++o)
        for (int i = 0; i < inner; ++i)
            for (int t = 0; t < taps; ++t)
                out[((int64_t)i * outer + o) * taps + t] = weights[((int64_t)o * inner + i) * taps + taps - 1 - t];
}

// A convolution over a field of places, all channels of a row of places as one vector: what leads from such a vector
// (width, channels) to that of a row `dy` further down is a matrix, whose blocks are the taps of that dy, one for each
// distance dx between two places. These call `with` for each row of a block: it gets the tap of its output channel and
// the first input channel, and where the places are whose distance is dx: how many, the first, and how far on the next.
template <class With>
void each_tap(int channels, int width, int kernel_height, int kernel_width, int reach, With with) {
    const int taps = kernel_height * kernel_width;
    const int reach_x = kernel_width / 2 < width - 1 ? kernel_width / 2 : width - 1;
    const int64_t side = (int64_t)width * channels, next = channels * side + channels;
    for (int o = 0; o < channels; ++o)
        for (int dy = -reach; dy <= reach; ++dy)
            for (int dx = -reach_x; dx <= reach_x; ++dx) {
                const int tap = (dy + kernel_height / 2) * kernel_width + dx + kernel_width / 2;
                const int y = dy + reach, from_x = dx > 0 ? dx : 0, to_x = dx > 0 ? 0 : -dx;
                with((int64_t)o * channels * taps + tap, width - (dx > 0 ? dx : -dx),
                     (y * side + (int64_t)to_x * channels + o) * side + (int64_t)from_x * channels, next);
            }
}

// weights (channels, channels, kernel_height, kernel_width) ─▶ matrices (2·reach + 1, side, side) with side = width·channels,
// the outputs in rows. Where the kernel has no tap there are zeros already.
template <class Number>
void widen(int channels, int width, int kernel_height, int kernel_width, int reach, const float* weights,
           Number* matrices) {
    const int taps = kernel_height * kernel_width;
    each_tap(channels, width, kernel_height, kernel_width, reach,
             [=](int64_t tap, int places, int64_t first, int64_t next) {
                 Number* row = matrices + first;
                 for (int i = 0; i < channels; ++i) assign(row[i], weights[tap + (int64_t)i * taps]);
                 for (int place = 1; place < places; ++place)
                     std::memcpy(row + place * next, row, channels * sizeof(Number));
             });
}

// The way back of `widen`; the gradients of the matrices are used up. Taps that reach nothing have zeros already.
void narrow(int channels, int width, int kernel_height, int kernel_width, int reach, float* matrices, float* weights) {
    const int taps = kernel_height * kernel_width;
    each_tap(channels, width, kernel_height, kernel_width, reach,
             [=](int64_t tap, int places, int64_t first, int64_t next) {
                 float* row = matrices + first;
                 for (int place = 1; place < places; ++place)
                     for (int i = 0; i < channels; ++i) row[i] += row[place * next + i];
                 for (int i = 0; i < channels; ++i) weights[tap + (int64_t)i * taps] = row[i];
             });
}

// out (ROWS, 16·VECTORS) = sum over channels and taps of weights times the shifted x, or added to what is there.
template <int ROWS, int VECTORS>
inline void convolve_block(int channels, int taps, int64_t row_stride, const float* weights, const float* x,
                           int64_t out_stride, int width, bool is_added, float* out) {
    Vec sums[ROWS][VECTORS] = {};
    for (int channel = 0; channel < channels; ++channel, x += row_stride)
        for (int t = 0; t < taps; ++t) {
            Vec values[VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) values[v] = load(x + t + v * WIDTH);
#pragma GCC unroll 4
            for (int row = 0; row < ROWS; ++row) {
                const Vec weight = all(weights[((int64_t)row * channels + channel) * taps + t]);
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v) sums[row][v] += values[v] * weight;
            }
        }
#pragma GCC unroll 4
    for (int row = 0; row < ROWS; ++row)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) {
            float* to = out + row * out_stride + v * WIDTH;
            const int count = width - v * WIDTH;
            if (count >= WIDTH) store(to, is_added ? sums[row][v] + load(to) : sums[row][v]);
            else if (count > 0) store(to, is_added ? sums[row][v] + load(to, count) : sums[row][v], count);
        }
}

template <int ROWS>
inline void convolve_rows(int channels, int taps, int64_t row_stride, const float* weights, const float* x,
                          int64_t out_stride, int columns, bool is_added, float* out) {
    int i = 0;
    for (; i + 2 * WIDTH < columns; i += 4 * WIDTH)
        convolve_block<ROWS, 4>(channels, taps, row_stride, weights, x + i, out_stride, columns - i, is_added,
                                out + i);
    for (; i < columns; i += WIDTH)
        convolve_block<ROWS, 1>(channels, taps, row_stride, weights, x + i, out_stride, columns - i, is_added,
                                out + i);
}

// weights (ROWS, COLUMNS; strides row_stride and column_stride) += the sums over `length` of dz (ROWS) times x (COLUMNS).
template <int ROWS, int COLUMNS>
inline void correlate_block(int length, int64_t stride, const float* dz, const float* x, int64_t row_stride,
                            int column_stride, float* weights) {
    Vec sums[ROWS][COLUMNS] = {};
    int i = 0;
    for (; i + WIDTH <= length; i += WIDTH) {
        Vec values[COLUMNS];
#pragma GCC unroll 4
        for (int column = 0; column < COLUMNS; ++column) values[column] = load(x + column * stride + i);
#pragma GCC unroll 4
        for (int row = 0; row < ROWS; ++row) {
            const Vec value = load(dz + row * stride + i);
#pragma GCC unroll 4
            for (int column = 0; column < COLUMNS; ++column) sums[row][column] += value * values[column];
        }
    }
    for (int row = 0; row < ROWS; ++row)
        for (int column = 0; column < COLUMNS; ++column) {
            Vec total = sums[row][column];
            if (i < length) total += load(dz + row * stride + i, length - i) * load(x + column * stride + i, length - i);
            weights[row * row_stride + column * column_stride] += sum(total);
        }
}

template <int ROWS>
inline void correlate_rows(int channels, int length, int64_t stride, const float* dz, const float* x, int64_t row_stride,
                           int taps, float* weights) {
    int channel = 0;
    for (; channel + 4 <= channels; channel += 4)
        correlate_block<ROWS, 4>(length, stride, dz, x + channel * stride, row_stride, taps, weights + channel * taps);
    for (; channel < channels; ++channel)
        correlate_block<ROWS, 1>(length, stride, dz, x + channel * stride, row_stride, taps, weights + channel * taps);
}

// dz (outputs, stride), x (channels, stride) ─▶ the gradients (outputs, channels, taps) of a Conv1d's weights:
// sums over `length` numbers, x shifted by each tap.
void correlate(int outputs, int channels, int length, int stride, int taps, const float* dz, const float* x,
               float* weights) {
    constexpr int PART = 512;  // numbers of a row: those of some dozen rows stay in the nearest cache
    const int64_t row_stride = (int64_t)channels * taps;
    std::memset(weights, 0, outputs * row_stride * sizeof(float));
    for (int start = 0; start < length; start += PART) {
        const int count = length - start < PART ? length - start : PART;
        for (int t = 0; t < taps; ++t) {
            int o = 0;
            for (; o + 4 <= outputs; o += 4)
                correlate_rows<4>(channels, count, stride, dz + (int64_t)o * stride + start, x + t + start, row_stride,
                                  taps, weights + o * row_stride + t);
            for (; o < outputs; ++o)
                correlate_rows<1>(channels, count, stride, dz + (int64_t)o * stride + start, x + t + start, row_stride,
                                  taps, weights + o * row_stride + t);
        }
    }
}

// Conv1d along the columns: x (channels, batch, columns), padded by taps/2 and with room to read beyond its end,
// weights (outputs, channels, taps) ─▶ out (outputs, batch, columns).
void convolve(int outputs, int channels, int batch, int columns, int taps, bool is_added, const float* weights,
              const float* x, float* out) {
    const int padded = columns + taps - 1;
    const int64_t row_stride = (int64_t)batch * padded, out_stride = (int64_t)batch * columns;
    for (int b = 0; b < batch; ++b) {
        const float* image = x + (int64_t)b * padded;
        float* to = out + (int64_t)b * columns;
        int o = 0;
        for (; o + 4 <= outputs; o += 4)
            convolve_rows<4>(channels, taps, row_stride, weights + (int64_t)o * channels * taps, image, out_stride,
                             columns, is_added, to + o * out_stride);
        for (; o < outputs; ++o)
            convolve_rows<1>(channels, taps, row_stride, weights + (int64_t)o * channels * taps, image, out_stride,
                             columns, is_added, to + o * out_stride);
    }
}

}  // namespace

enum Code {  // tape.py knows the order
    INPUT, PRODUCT, PRODUCT_ROUNDED, ROUND, ACTIVATE, ACTIVATE_BACK, LOSS, SWAP, TURN, WIDEN, WIDEN_ROUNDED, NARROW, PAD,
    REVERSE, CONVOLVE, CORRELATE,
};

constexpr decltype(&activate<Identity>) ACTIVATE_AS[] = {  // layers.py knows the order
    activate<Identity>, activate<Relu>, activate<Relu6>, activate<LeakyRelu>, activate<Elu>,
    activate<Silu>,     activate<Tanh>, activate<Sigmoid>, activate<Gelu>,
};

extern "C" void mixcoder_set_product(void* function) { sgemm = reinterpret_cast<Sgemm>(function); }
extern "C" void mixcoder_set_rounded_product(void* function) { gemm_rounded = reinterpret_cast<GemmRounded>(function); }

inline Rounded* rounded_at(float* address) { return reinterpret_cast<Rounded*>(address); }

// While it lives, numbers too small for all their digits count as zero: a processor takes a hundred times as long for
// them, and saturated activations are full of them.
struct WithoutDenormals {
#ifdef __SSE__
    const unsigned before = __builtin_ia32_stmxcsr();
    WithoutDenormals() { __builtin_ia32_ldmxcsr(before | 0x8040); }
    ~WithoutDenormals() { __builtin_ia32_ldmxcsr(before); }
#endif
};

extern "C" void mixcoder_run(const Operation* operations, int count, const uint8_t* images) {
    const WithoutDenormals fast{};
    for (const Operation* it = operations; it < operations + count; ++it) {
        const int32_t* n = it->n;
        float* const* p = it->p;
        switch (it->code) {
            case INPUT: input(images, n[0], n[1], n[2], n[3], reinterpret_cast<const int32_t*>(p[0]), p[1]); break;
            case PRODUCT:
                product<float>(sgemm, n[0], n[1], n[2], n[3], n[4], p[0], n[5], p[1], n[6], it->scale, p[2], n[7]);
                break;
            case PRODUCT_ROUNDED:
                product<Rounded>(gemm_rounded, n[0], n[1], n[2], n[3], n[4], p[0], n[5], p[1], n[6], it->scale, p[2], n[7]);
                break;
            case ROUND: round(n[0], p[0], rounded_at(p[1])); break;
            case ACTIVATE: ACTIVATE_AS[n[3]](n[0], n[1], n[2], p[0], p[1], p[2], p[3]); break;
            case ACTIVATE_BACK: activate_back(n[0], n[1], n[2], p[0], p[1], p[2]); break;
            case LOSS: loss(n[0], n[1], it->scale, p[0], p[1], p[2]); break;
            case SWAP: swap(n[0], n[1], n[2], n[3], n[4], n[5], p[0], p[1]); break;
            case TURN: turn(n[0], n[1], n[2], p[0], p[1]); break;
            case WIDEN: widen(n[0], n[1], n[2], n[3], n[4], p[0], p[1]); break;
            case WIDEN_ROUNDED: widen(n[0], n[1], n[2], n[3], n[4], p[0], rounded_at(p[1])); break;
            case NARROW: narrow(n[0], n[1], n[2], n[3], n[4], p[0], p[1]); break;
            case PAD: pad(n[0], n[1], n[2], p[0], p[1]); break;
            case REVERSE: reverse(n[0], n[1], n[2], p[0], p[1]); break;
            case CONVOLVE: convolve(n[0], n[1], n[2], n[3], n[4], n[5], p[0], p[1], p[2]); break;
            case CORRELATE: correlate(n[0], n[1], n[2], n[3], n[4], p[0], p[1], p[2]); break;
        }
    }
}
