// The operations of a training step on the CPU, and a loop over a list of them.
//
//   operations, images ─▶ mixcoder_run ─▶ what they write: activations, gradients, loss
//
// A list is made once for a model (tape.py) and run at every step, without an interpreter in between. Matrices are
// row-major float32, where nothing else is said. Products are left to the BLAS that torch carries; what stands between
// them is done here in one pass each. What an operation says that it writes, it writes anew, not added to what was
// there.

#include <sched.h>

#include <atomic>
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
    const uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return value == value ? nearest : 0x7fc0;  // what is not a number stays so
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

// An activation: its value of z, and its slope there; where that is 1 everywhere it need not be kept. Of what is not a
// number, none makes one: comparisons ask for what is below, and take all else as it is.
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
        value = z <= zero ? zero : z;
        slope = z <= zero ? zero : one;
    }
};

struct Relu6 {
    static constexpr bool HAS_SLOPE = true;
    static void of(Vec z, Vec& value, Vec& slope) {
        const Vec zero{}, one = all(1.0f), six = all(6.0f);
        value = z <= zero ? zero : (z >= six ? six : z);
        slope = z <= zero ? zero : (z >= six ? zero : one);
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
        value = z <= zero ? power - one : z;
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

// Clips to [0, 1], but for a tenth of what lies beyond.
struct Clamp {
    static constexpr bool HAS_SLOPE = true;
    static void of(Vec z, Vec& value, Vec& slope) {
        const Vec zero{}, one = all(1.0f), leak = all(0.1f);
        const Vec clipped = z < zero ? zero : (z > one ? one : z);
        value = clipped + (z - clipped) * leak;
        slope = z < zero ? leak : (z > one ? leak : one);
    }
};

struct Operation {
    int32_t code;
    int32_t n[12];
    float scale;
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

// x (blocks, outer, inner, columns) ─▶ (blocks, inner, outer, columns).
void swap(int blocks, int outer, int inner, int columns, const float* x, float* out) {
    const int64_t size = (int64_t)outer * inner * columns;
    for (int block = 0; block < blocks; ++block, out += size)
        for (int o = 0; o < outer; ++o)
            for (int i = 0; i < inner; ++i, x += columns)
                std::memcpy(out + ((int64_t)i * outer + o) * columns, x, columns * sizeof(float));
}

// What changes from step to step of AdamW.
struct Rates {
    float decay, first, second, step, scale, epsilon;
};

// AdamW (arXiv 1711.05101) on some values, in the order of operations of torch's: mean and square are its moments.
void adamw(int count, const Rates& rates, float* value, const float* gradient, float* mean, float* square) {
    for (int i = 0; i < count; ++i) {
        const float g = gradient[i];
        const float m = mean[i] + (g - mean[i]) * rates.first;
        const float s = square[i] + (g * g - square[i]) * rates.second;
        mean[i] = m;
        square[i] = s;
        value[i] = value[i] * rates.decay - rates.step * m / (__builtin_sqrtf(s) * rates.scale + rates.epsilon);
    }
}

// x ─▶ added to what is at out.
void add(int count, const float* x, float* out) {
    for (int i = 0; i < count; ++i) out[i] += x[i];
}

// Returns when as many threads as there are parties have called it with this counter, each as often as the others; not
// so, when the counter says that one of them will not come.
constexpr int64_t ABANDONED = int64_t{1} << 62;  // step.py knows it
bool meet(int parties, std::atomic<int64_t>* calls) {
    const int64_t all = (calls->fetch_add(1) / parties + 1) * parties;
    int64_t now = calls->load();
    for (int i = 0; now < all && now < ABANDONED; now = calls->load())
        if (++i > 1000) sched_yield();  // there may be fewer processors than threads
    return now < ABANDONED;
}

// Where blocks of a matrix lie: (blocks, more blocks, rows, columns), the columns side by side.
struct Strides {
    int64_t block, next_block, row;
};

// out (COLUMNS = 8, ROWS = 8) = x (8, 8) turned.
inline void turn_8x8(const float* x, int64_t x_row, float* out, int64_t out_row, bool is_added) {
    typedef float Line __attribute__((vector_size(32)));
    Line a[8], b[8];
    for (int i = 0; i < 8; ++i) std::memcpy(&a[i], x + i * x_row, sizeof(Line));
#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
    for (int i = 0; i < 8; i += 2) {
        b[i] = __builtin_shufflevector(a[i], a[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        b[i + 1] = __builtin_shufflevector(a[i], a[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            a[i + 2 * j] = __builtin_shufflevector(b[i + j], b[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            a[i + 2 * j + 1] = __builtin_shufflevector(b[i + j], b[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; ++i) {
        b[i] = __builtin_shufflevector(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        b[i + 4] = __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
#else
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 8; ++j) b[i][j] = a[j][i];
#endif
    for (int i = 0; i < 8; ++i) {
        Line before{};
        if (is_added) std::memcpy(&before, out + i * out_row, sizeof(Line));
        b[i] += before;
        std::memcpy(out + i * out_row, &b[i], sizeof(Line));
    }
}

// x (rows, columns) ─▶ (columns, rows), or added to what is there, for no more than 8 of each.
inline void turn_part(int rows, int columns, const float* x, int64_t x_row, float* out, int64_t out_row,
                      bool is_added) {
    if (rows == 8 && columns == 8) return turn_8x8(x, x_row, out, out_row, is_added);
    for (int r = 0; r < rows; ++r)
        for (int c = 0; c < columns; ++c) {
            const float value = x[r * x_row + c];
            out[c * out_row + r] = is_added ? out[c * out_row + r] + value : value;
        }
}

// x (blocks, more, rows, columns) ─▶ (blocks, more, columns, rows), or added to what is there.
void turn(int blocks, int more, int rows, int columns, Strides x_at, Strides out_at, bool is_added, const float* x,
          float* out) {
    const bool is_long = rows > columns;  // the long way in whole cache lines, and across it in between
    const int line = is_long ? 16 : 8, column_line = is_long ? 8 : 16;
    for (int block = 0; block < blocks * more; ++block) {
        const float* from = x + block / more * x_at.block + block % more * x_at.next_block;
        float* to = out + block / more * out_at.block + block % more * out_at.next_block;
        const auto turn_lines = [=](int row, int column) {
            for (int r = row; r < rows && r < row + line; r += 8)
                for (int c = column; c < columns && c < column + column_line; c += 8)
                    turn_part(rows - r < 8 ? rows - r : 8, columns - c < 8 ? columns - c : 8, from + r * x_at.row + c,
                              x_at.row, to + c * out_at.row + r, out_at.row, is_added);
        };
        if (is_long)
            for (int r = 0; r < rows; r += line)
                for (int c = 0; c < columns; c += column_line) turn_lines(r, c);
        else
            for (int c = 0; c < columns; c += column_line)
                for (int r = 0; r < rows; r += line) turn_lines(r, c);
    }
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

// As memcpy, without its call for the few bytes of a row.
inline void copy(int64_t bytes, const char* from, char* to) {
    int64_t i = 0;
    for (; i + 32 <= bytes; i += 32) std::memcpy(to + i, from + i, 32);
    if (i < bytes) std::memcpy(to + i, from + i, bytes - i);
}

// A convolution in a field of places, one row of them a vector (width, channels): what leads from such a row to the one
// dy further up is a matrix with the outputs in its rows. Its blocks (channels, channels) are taps: between the places
// x and x + dx stands the tap of dx, or zeros where |dx| > reach.
//
// taps (2·reach + 1, stride) of one dy, each (channels, channels) of `bytes` ─▶ its matrix, where zeros are already.
void widen(int channels, int width, int reach, int stride, int bytes, const char* taps, char* matrix) {
    const int64_t line = (int64_t)channels * bytes, side = line * width;
    for (int dx = -reach; dx <= reach; ++dx, taps += (int64_t)stride * bytes)
        for (int x = dx > 0 ? 0 : -dx; x < width && x + dx < width; ++x)
            for (int o = 0; o < channels; ++o)
                copy(line, taps + o * line, matrix + (x * channels + o) * side + (x + dx) * line);
}

// The way back: gradients of the matrix ─▶ those of the taps.
void narrow(int channels, int width, int reach, int stride, const float* matrix, float* tap) {
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
    INPUT, PRODUCT, PRODUCT_ROUNDED, ROUND, ACTIVATE, ACTIVATE_BACK, LOSS, SWAP, TURN, WIDEN, NARROW, PAD, REVERSE, CONVOLVE,
    CORRELATE, ADD, MEET, ADAMW,
};

constexpr decltype(&activate<Identity>) ACTIVATE_AS[] = {  // layers.py knows the order
    activate<Identity>, activate<Relu>, activate<Relu6>, activate<LeakyRelu>, activate<Elu>,
    activate<Silu>,     activate<Tanh>, activate<Sigmoid>, activate<Gelu>,      activate<Clamp>,
};

extern "C" void mixcoder_set_product(void* function) { sgemm = reinterpret_cast<Sgemm>(function); }
extern "C" void mixcoder_set_rounded_product(void* function) { gemm_rounded = reinterpret_cast<GemmRounded>(function); }

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
            case ROUND: round(n[0], p[0], reinterpret_cast<Rounded*>(p[1])); break;
            case ACTIVATE: ACTIVATE_AS[n[3]](n[0], n[1], n[2], p[0], p[1], p[2], p[3]); break;
            case ACTIVATE_BACK: activate_back(n[0], n[1], n[2], p[0], p[1], p[2]); break;
            case LOSS: loss(n[0], n[1], it->scale, p[0], p[1], p[2]); break;
            case SWAP: swap(n[0], n[1], n[2], n[3], p[0], p[1]); break;
            case TURN: turn(n[0], n[1], n[2], n[3], {n[4], n[5], n[6]}, {n[7], n[8], n[9]}, n[10], p[0], p[1]); break;
            case WIDEN:
                widen(n[0], n[1], n[2], n[3], n[4], reinterpret_cast<const char*>(p[0]), reinterpret_cast<char*>(p[1]));
                break;
            case NARROW: narrow(n[0], n[1], n[2], n[3], p[0], p[1]); break;
            case PAD: pad(n[0], n[1], n[2], p[0], p[1]); break;
            case REVERSE: reverse(n[0], n[1], n[2], p[0], p[1]); break;
            case CONVOLVE: convolve(n[0], n[1], n[2], n[3], n[4], n[5], p[0], p[1], p[2]); break;
            case ADD: add(n[0], p[0], p[1]); break;
            case ADAMW: adamw(n[0], *reinterpret_cast<const Rates*>(p[4]), p[0], p[1], p[2], p[3]); break;
            case MEET:
                if (!meet(n[0], reinterpret_cast<std::atomic<int64_t>*>(p[0]))) return;
                break;
            case CORRELATE: correlate(n[0], n[1], n[2], n[3], n[4], p[0], p[1], p[2]); break;
        }
    }
}
