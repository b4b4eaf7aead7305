// Convolutions along the columns, as products: a panel is rows of x, further on by one column for each tap.
#pragma once

#include <cstdint>
#include <cstring>

#include "products.h"
#include "vectors.h"

namespace {

// Conv1d along the columns: x (channels, batch, columns), padded by taps/2, with memory to read beyond its end,
// weights (outputs, channels, taps) ─▶ out (outputs, batch, columns).
void convolve(int outputs, int channels, int batch, int columns, int taps, bool is_added, const float* weights,
              const float* x, float* out) {
    const int padded = columns + taps - 1;
    const int64_t row_stride = (int64_t)batch * padded, out_stride = (int64_t)batch * columns;
    for (int b = 0; b < batch; ++b)
        for (int i = 0, count; i < columns; i += count) {
            count = panel_columns(columns - i);
            const Panel shifted{x + (int64_t)b * padded + i, 1, taps, row_stride, channels};
            const Results results{out + (int64_t)b * columns + i, out_stride, count, is_added ? 1.0f : 0.0f};
            multiply_panel<float>(outputs, {weights, (int64_t)channels * taps, 1}, shifted, results);
        }
}

// Sums over `length` elements of each row of dz times each row of x, all `stride` elements apart, are added to
// weights, whose rows and columns lie `row_stride` and `column_stride` elements apart.
struct Correlation {
    const float* dz;
    const float* x;
    int64_t stride;
    int length;
    float* weights;
    int64_t row_stride;
    int column_stride;
};

template <int ROWS, int COLUMNS>
__attribute__((noinline)) void correlate_tile(const Correlation& of) {
    const int64_t stride = of.stride;
    const int whole = of.length / WIDTH * WIDTH, rest = of.length - whole;
    Vec sums[ROWS][COLUMNS] = {};
    for (int i = 0; i < whole; i += WIDTH) {
        Vec values[COLUMNS];
#pragma GCC unroll 4
        for (int column = 0; column < COLUMNS; ++column) values[column] = load(of.x + column * stride + i);
#pragma GCC unroll 6
        for (int row = 0; row < ROWS; ++row) {
            const Vec value = load(of.dz + row * stride + i);
#pragma GCC unroll 4
            for (int column = 0; column < COLUMNS; ++column) sums[row][column] += value * values[column];
        }
    }
    for (int row = 0; row < ROWS; ++row)
        for (int column = 0; column < COLUMNS; ++column) {
            Vec total = sums[row][column];
            if (rest > 0) total += load(of.dz + row * stride + whole, rest) * load(of.x + column * stride + whole, rest);
            of.weights[row * of.row_stride + column * of.column_stride] += sum(total);
        }
}

template <int ROWS, int COLUMNS>
void correlate_columns(Correlation of, int columns) {
    for (; columns >= COLUMNS; columns -= COLUMNS, of.x += COLUMNS * of.stride, of.weights += COLUMNS * of.column_stride)
        correlate_tile<ROWS, COLUMNS>(of);
    if constexpr (COLUMNS > 1)
        if (columns > 0) correlate_columns<ROWS, 1>(of, columns);
}

template <int ROWS>
void correlate_rows(Correlation of, int rows, int columns) {
    for (; rows >= ROWS; rows -= ROWS, of.dz += ROWS * of.stride, of.weights += ROWS * of.row_stride)
        correlate_columns<ROWS, WIDEST>(of, columns);
    if constexpr (ROWS > 1)
        if (rows > 0) correlate_rows<ROWS == 6 ? 4 : 1>(of, rows, columns);
}

// dz (outputs, stride), x (channels, stride) ─▶ the gradients (outputs, channels, taps) of a Conv1d's weights:
// sums over `length` elements, x shifted by each tap.
void correlate(int outputs, int channels, int length, int stride, int taps, const float* dz, const float* x,
               float* weights) {
    constexpr int LONGEST = 4096;  // elements of a row: 32 such pieces fit into the second-level cache
    const int64_t row_stride = (int64_t)channels * taps;
    std::memset(weights, 0, outputs * row_stride * sizeof(float));
    for (int start = 0; start < length; start += LONGEST) {
        const int count = length - start < LONGEST ? length - start : LONGEST;
        for (int t = 0; t < taps; ++t)
            correlate_rows<6>({dz + start, x + start + t, stride, count, weights + t, row_stride, taps}, outputs,
                              channels);
    }
}

}  // namespace
