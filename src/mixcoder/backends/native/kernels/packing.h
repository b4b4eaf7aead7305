// Operands of gemms as cells, in the order in which a product reads them.
//
// A cell is 4 bytes that meet 4 bytes of the other operand in one multiply-add: a float32, or two bfloat16 that follow
// each other along k. A step is one cell further along k.
//
//   (k, columns) or (columns, k) ─▶ cells (steps, stride)
#pragma once

#include <cstdint>
#include <cstring>

#include "transposes.h"
#include "vectors.h"

namespace {

// x ─▶ the same elements in bfloat16. The processor's instruction makes denormals zero, as products do.
inline void to_bf16(int64_t count, const float* x, BFloat16* out) {
    int64_t i = 0;
#ifdef __AVX512BF16__
    for (; i + 2 * WIDTH <= count; i += 2 * WIDTH) {
        const __m512bh both = _mm512_cvtne2ps_pbh((__m512)load(x + i + WIDTH), (__m512)load(x + i));
        std::memcpy(out + i, &both, sizeof both);
    }
#endif
    for (; i < count; ++i) out[i] = as_bf16(x[i]);
}

template <class Element>
constexpr int ELEMENTS_OF_A_CELL = sizeof(float) / sizeof(Element);

// The steps of k elements: where k is odd, the last pair ends with a zero.
template <class Element>
constexpr int steps_of(int k) {
    return (k + ELEMENTS_OF_A_CELL<Element> - 1) / ELEMENTS_OF_A_CELL<Element>;
}

// x (k, columns; rows `row_stride` apart) ─▶ cells (k, stride); zeros fill the last vector of a row.
inline void pack_rows(int k, int columns, const float* x, int64_t row_stride, float* cells, int64_t stride) {
    for (int i = 0; i < k; ++i, x += row_stride, cells += stride) {
        int j = 0;
        for (; j + WIDTH <= columns; j += WIDTH) store(cells + j, load(x + j));
        if (j < columns) store(cells + j, load(x + j, columns - j));
    }
}

// At most WIDTH bfloat16, each in the lower half of its own 32 bits.
typedef uint32_t CellVec __attribute__((vector_size(VECTOR_BYTES)));
inline CellVec load_halves(const BFloat16* x, int count) {
    typedef BFloat16 Halves __attribute__((vector_size(VECTOR_BYTES / 2)));
    Halves halves{};
    if (count >= WIDTH) std::memcpy(&halves, x, sizeof halves);
    else std::memcpy(&halves, x, count * sizeof(BFloat16));
    return __builtin_convertvector(halves, CellVec);
}

inline void pack_rows(int k, int columns, const BFloat16* x, int64_t row_stride, float* cells, int64_t stride) {
    for (int i = 0; i < k; i += 2, x += 2 * row_stride, cells += stride)
        for (int j = 0; j < columns; j += WIDTH) {
            CellVec pairs = load_halves(x + j, columns - j);
            if (i + 1 < k) pairs |= load_halves(x + row_stride + j, columns - j) << 16;
            store(cells + j, (Vec)pairs);
        }
}

// Cells of a row of a panel: whole vectors, and whole lines of 8.
inline int padded(int columns) {
    constexpr int UNIT = WIDTH < 8 ? 8 : WIDTH;
    return (columns + UNIT - 1) / UNIT * UNIT;
}

// x (columns, k; rows `row_stride` apart) ─▶ cells (steps, stride); zeros fill a row up to `padded(columns)`.
template <class Element>
void pack_columns(int k, int columns, const Element* x, int64_t row_stride, float* cells, int64_t stride) {
    constexpr int LENGTH = ELEMENTS_OF_A_CELL<Element>;
    const int steps = steps_of<Element>(k), whole_steps = k / LENGTH / 8 * 8;
    for (int j = 0; j < columns; j += 8)
        for (int step = 0; step < whole_steps; step += 8) {
            const char* from = reinterpret_cast<const char*>(x + j * row_stride + step * LENGTH);
            Line lines[8];
            if (j + 8 <= columns) transpose_8x8(from, row_stride * sizeof(Element), lines);
            else transpose_8x8(from, row_stride * sizeof(Element), lines, columns - j);
            for (int i = 0; i < 8; ++i) std::memcpy(cells + (step + i) * stride + j, &lines[i], sizeof(Line));
        }
    for (int step = whole_steps; step < steps; ++step)
        for (int j = 0; j < columns; ++j) {
            Element cell[LENGTH] = {};
            for (int i = 0; i < LENGTH && step * LENGTH + i < k; ++i) cell[i] = x[j * row_stride + step * LENGTH + i];
            std::memcpy(cells + step * stride + j, cell, sizeof cell);
        }
    const int gap = padded(columns) - columns;
    for (int step = 0; step < steps; ++step) std::memset(cells + step * stride + columns, 0, gap * sizeof(float));
}

// An operand of a gemm, as (k, columns), or with k along its rows in memory as (columns, k).
template <class Element>
struct Operand {
    const Element* at;
    int64_t row_stride;
    bool has_k_along_rows;

    Operand from(int k, int column) const {
        return {at + (has_k_along_rows ? column * row_stride + k : k * row_stride + column), row_stride,
                has_k_along_rows};
    }
    void pack(int k, int columns, float* cells, int64_t stride) const {
        if (has_k_along_rows) pack_columns(k, columns, at, row_stride, cells, stride);
        else pack_rows(k, columns, at, row_stride, cells, stride);
    }
};

}  // namespace
