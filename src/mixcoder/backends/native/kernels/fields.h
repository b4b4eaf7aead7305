// Convolutions of stride 1 over fields, with the images of a batch side by side in memory: vectors run over images.
//
//   x (height, width, channels, batch) ─ weights (outputs, taps, channels) ─▶ z (out_height, out_width, outputs, batch)
//
// Channels of neighbours in a row of x follow each other. So what a row of taps meets is a panel of a gemm as it lies,
// for any channels, and taps beyond the edges are left out: nothing is copied, and no zeros are multiplied.
#pragma once

#include <cstdint>
#include <cstring>

#include "packing.h"
#include "products.h"
#include "vectors.h"

namespace {

// The first tap of z's first element lies `top` and `left` before x's first element. With groups, each has its own
// channels and outputs.
struct FieldSizes {
    int32_t batch, height, width, channels, out_height, out_width, outputs, kernel_height, kernel_width;
    int32_t top, left, groups;
};

// The taps that meet the field, of those that lie from `start` on.
struct Reach {
    int first, count;
};
inline Reach reach(int start, int taps, int size) {
    const int first = start < 0 ? -start : 0, end = size - start < taps ? size - start : taps;
    return {first, end > first ? end - first : 0};
}

// Whether products of bfloat16 are those of the BLAS, which takes rows as they are.
template <class Element>
bool is_by_blas() {
    return sizeof(Element) == sizeof(BFloat16) && gemm_bf16;
}

// The cells from a row of as many rows as a cell has elements to the next: whole vectors where cells are pairs.
template <class Element>
int64_t cell_stride(int columns) {
    const bool is_paired = sizeof(Element) == sizeof(BFloat16) && !is_by_blas<Element>();
    return is_paired ? (columns + WIDTH - 1) / WIDTH * WIDTH : columns;
}

// x (2·pairs, columns) in bfloat16: as it is for the BLAS, else cells (pairs, stride) of two rows, whose last vector is
// filled with zeros.
inline void pair_rows(int pairs, int columns, const float* x, float* cells) {
    if (is_by_blas<BFloat16>()) {
        BFloat16* const out = reinterpret_cast<BFloat16*>(cells);
        for (int64_t i = 0; i < (int64_t)2 * pairs * columns; ++i) out[i] = as_bf16(x[i]);
        return;
    }
    typedef uint32_t Bits __attribute__((vector_size(VECTOR_BYTES)));
    const auto rounded = [](Vec value) {  // as as_bf16, in the upper half
        const Bits bits = (Bits)value, nearest = bits + 0x7fff + (bits >> 16 & 1);
        return value == value ? nearest : Bits{} + 0x7fc00000u;
    };
    for (int pair = 0; pair < pairs; ++pair, x += 2 * columns)
        for (int i = 0; i < columns; i += WIDTH, cells += WIDTH) {
            const int count = columns - i < WIDTH ? columns - i : WIDTH;
            const Bits lower = rounded(load(x + i, count)), upper = rounded(load(x + columns + i, count));
            store(cells, (Vec)(lower >> 16 | (upper & 0xffff0000u)));
        }
}

// c (m, n; rows n apart) = a · b + beta · c, for b as cells (steps, n), `b_step` from a step to the next.
template <class Element>
void multiply_cells(int m, int n, int steps, Rows<Element> a, const float* b, int64_t b_step, float beta, float* c) {
    for (int step = 0; step < steps; step += STEPS, beta = 1.0f) {
        const int count = steps - step < STEPS ? steps - step : STEPS;
        for (int j = 0, columns; j < n; j += columns) {
            columns = panel_columns(n - j);
            const Rows<Element> rows{a.at + step * a.step, a.row_stride, a.step};
            multiply_panel<Element>(m, rows, {b + step * b_step + j, b_step, count, 0, 1}, {c + j, n, columns, beta});
        }
    }
}

// out (outputs, batch) = sum over a row of taps of weights times `x`, or added to out; x and weights of its first tap.
template <class Element>
void convolve_taps(const FieldSizes& sizes, int taps, const Element* weights, const float* x, float beta, float* out) {
    constexpr int LENGTH = ELEMENTS_OF_A_CELL<Element>;
    const int channels = sizes.channels / sizes.groups, outputs = sizes.outputs / sizes.groups, batch = sizes.batch;
    const int32_t k = taps * channels, row_stride = sizes.kernel_height * sizes.kernel_width * channels;
    const int64_t stride = cell_stride<Element>(batch);
    for (int group = 0; group < sizes.groups; ++group) {
        if (is_by_blas<Element>())
            multiply<Element>({false, false, outputs, batch, k, row_stride, batch, batch}, weights,
                              reinterpret_cast<const Element*>(x), beta, out);
        else multiply_cells<Element>(outputs, batch, k / LENGTH, {weights, row_stride, LENGTH}, x, stride, beta, out);
        weights += outputs * row_stride, x += channels / LENGTH * stride, out += outputs * batch;
    }
}

// z (out_height, out_width, outputs, batch) = weights (outputs, taps, channels / groups) over x, or added to z.
template <class Element>
void convolve_field(const FieldSizes& sizes, const Element* weights, const float* x, float beta, float* z) {
    const int channels = sizes.channels / sizes.groups;
    const int64_t cell = cell_stride<Element>(sizes.batch) * sizes.channels / ELEMENTS_OF_A_CELL<Element>;
    const int64_t outputs = (int64_t)sizes.outputs * sizes.batch;
    for (int i = 0; i < sizes.out_height * sizes.out_width; ++i, z += outputs) {
        const int row = i / sizes.out_width - sizes.top, column = i % sizes.out_width - sizes.left;
        const Reach down = reach(row, sizes.kernel_height, sizes.height);
        const Reach right = reach(column, sizes.kernel_width, sizes.width);
        if (beta == 0 && (down.count == 0 || right.count == 0)) std::memset(z, 0, outputs * sizeof(float));
        const int at_once = sizes.groups == 1 ? right.count : 1;  // channels of a group do not follow each other
        float next_beta = beta;
        for (int dy = down.first; dy < down.first + down.count; ++dy)
            for (int dx = right.first; dx < right.first + right.count; dx += at_once, next_beta = 1.0f) {
                const Element* const tap = weights + ((int64_t)dy * sizes.kernel_width + dx) * channels;
                const float* const cells = x + ((int64_t)(row + dy) * sizes.width + column + dx) * cell;
                convolve_taps(sizes, at_once, tap, cells, next_beta, z);
            }
    }
}

// The lanes of vectors that hold nothing, for rows of so many elements.
inline int empty_lanes(int elements) { return (WIDTH - elements % WIDTH) % WIDTH; }

// sums (m, n) += a (k, m) · b (k, n), for parts of cells that hold `a_columns` and `b_columns`.
template <class Element>
void add_products(int m, int n, int k, const Element* a, int a_columns, const Element* b, int b_columns, float* sums) {
    constexpr int LENGTH = ELEMENTS_OF_A_CELL<Element>;
    const GemmSizes sizes{true, false, m, n, k, a_columns, b_columns, n};
    if (is_by_blas<Element>()) return multiply(sizes, a, b, 1.0f, sums);
    const int64_t a_step = cell_stride<Element>(a_columns), b_step = cell_stride<Element>(b_columns);
    const float* const cells = reinterpret_cast<const float*>(b);
    multiply_cells<Element>(m, n, k / LENGTH, {a, LENGTH, LENGTH * a_step}, cells, b_step, 1.0f, sums);
}

// sums (groups, outputs / groups, channels / groups) += z times x for one tap and a line of z, over all images; with
// `is_swapped` they are (groups, channels / groups, outputs / groups).
template <class Element>
void correlate_line(const FieldSizes& sizes, int line, int dy, int dx, bool is_swapped, const Element* z,
                    const Element* x, float* sums) {
    const int channels = sizes.channels / sizes.groups, outputs = sizes.outputs / sizes.groups;
    const Reach right = reach(dx - sizes.left, sizes.out_width, sizes.width);
    if (right.count == 0) return;
    const int64_t of_z = (int64_t)line * sizes.out_width + right.first;
    const int64_t of_x = (int64_t)(line + dy - sizes.top) * sizes.width + right.first + dx - sizes.left;
    z += of_z * sizes.batch * cell_stride<Element>(sizes.outputs);
    x += of_x * sizes.batch * cell_stride<Element>(sizes.channels);
    const int length = is_by_blas<Element>() ? 1 : ELEMENTS_OF_A_CELL<Element>, k = right.count * sizes.batch;
    for (int group = 0; group < sizes.groups; ++group, sums += outputs * channels) {
        const Element *of_group = z + group * outputs * length, *read = x + group * channels * length;
        if (is_swapped) add_products(channels, outputs, k, read, sizes.channels, of_group, sizes.outputs, sums);
        else add_products(outputs, channels, k, of_group, sizes.outputs, read, sizes.channels, sums);
    }
}

// The gradients of weights (outputs, channels / groups, taps) from z (out_height, out_width, batch, outputs) and x
// (height, width, batch, channels), as cells. `sums` is memory for as many elements as weights.
template <class Element>
void correlate_field(const FieldSizes& sizes, const Element* z, const Element* x, float* sums, float* weights) {
    const int channels = sizes.channels / sizes.groups, outputs = sizes.outputs / sizes.groups;
    const int taps = sizes.kernel_height * sizes.kernel_width;
    const int64_t count = (int64_t)sizes.outputs * channels;
    const bool is_swapped = empty_lanes(outputs) < empty_lanes(channels);
    std::memset(sums, 0, taps * count * sizeof(float));
    for (int line = 0; line < sizes.out_height; ++line) {
        const Reach down = reach(line - sizes.top, sizes.kernel_height, sizes.height);
        for (int dy = down.first; dy < down.first + down.count; ++dy)
            for (int dx = 0; dx < sizes.kernel_width; ++dx) {
                const int64_t tap = (int64_t)dy * sizes.kernel_width + dx;
                correlate_line(sizes, line, dy, dx, is_swapped, z, x, sums + tap * count);
            }
    }
    for (int tap = 0; tap < taps; ++tap, sums += count)
        for (int o = 0; o < sizes.outputs; ++o)
            for (int c = 0; c < channels; ++c) {
                const int own = o % outputs, at = is_swapped ? c * outputs + own : own * channels + c;
                weights[((int64_t)o * channels + c) * taps + tap] = sums[(int64_t)(o - own) * channels + at];
            }
}

}  // namespace
