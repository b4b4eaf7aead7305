// Matrix products of float32 or bfloat16 operands, with float32 results: by the BLAS that torch brings, or our own.
//
//   rows of a in chunks ─▶ k in blocks ─▶ columns of b in panels ─▶ rows in blocks ─▶ tiles of c, kept in registers
//
// Python chooses for each precision when the kernels are loaded (products.py). Our own reach the peak of processors with
// AVX-512 from matrices of a few rows on.
#pragma once

#include <cstdint>

#include "packing.h"
#include "vectors.h"

namespace {

// c (m, n) = op(a) op(b) + beta c, as BLAS has it; rows lie lda, ldb and ldc elements apart.
struct GemmSizes {
    int32_t a_is_transposed, b_is_transposed, m, n, k, lda, ldb, ldc;
};

// What a tile reads of a: elements from a row to the next, and from a step along k to the next.
template <class Element>
struct Rows {
    const Element* at;
    int64_t row_stride, step;
};

// What a tile reads of b: rows of cells, one for each step along k, in `runs` of `steps`; cells from a step to the next
// and from a run to the next. A gemm has one run.
struct Panel {
    const float* cells;
    int64_t step;
    int steps;
    int64_t next_run;
    int runs;
};

// Columns of c, as many as a panel has.
struct Results {
    float* at;
    int64_t row_stride;
    int columns;
    float beta;
};

inline Vec broadcast(const float* cell) { return all(*cell); }
inline Vec broadcast(const BFloat16* cell) {
    int32_t pair;
    std::memcpy(&pair, cell, sizeof pair);
    return (Vec)(IntVec{} + pair);
}

// sums + a · b, for vectors of cells.
template <class Element>
inline Vec multiply_add(Vec sums, Vec a, Vec b);
template <>
inline Vec multiply_add<float>(Vec sums, Vec a, Vec b) {
    return sums + a * b;
}
template <>
inline Vec multiply_add<BFloat16>(Vec sums, Vec a, Vec b) {
#ifdef __AVX512BF16__
    return (Vec)_mm512_dpbf16_ps((__m512)sums, (__m512bh)a, (__m512bh)b);
#else
    const IntVec upper = IntVec{} - 0x10000;  // a bfloat16 is the upper half of a float32
    sums += (Vec)((IntVec)a << 16) * (Vec)((IntVec)b << 16);
    return sums + (Vec)((IntVec)a & upper) * (Vec)((IntVec)b & upper);
#endif
}

// A tile (ROWS, WIDTH·VECTORS) of c. A function of its own, or its sums are not all kept in registers; its arguments are
// not copied, or it waits for them.
template <int ROWS, int VECTORS, class Element>
__attribute__((noinline)) void multiply_tile(const Rows<Element>& a, const Panel& b, const Results& c) {
    Vec sums[ROWS][VECTORS] = {};
    const Element* cells = a.at;
    for (int run = 0; run < b.runs; ++run) {
        const float* columns = b.cells + run * b.next_run;
        for (int step = 0; step < b.steps; ++step, cells += a.step, columns += b.step) {
            Vec values[VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) values[v] = load(columns + v * WIDTH);
#pragma GCC unroll 16
            for (int row = 0; row < ROWS; ++row) {
                const Vec value = broadcast(cells + row * a.row_stride);
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v) sums[row][v] = multiply_add<Element>(sums[row][v], value, values[v]);
            }
        }
    }
    const float beta = c.beta;
    const int64_t row_stride = c.row_stride;
    const int last = c.columns - (VECTORS - 1) * WIDTH;  // columns of the last vector: the others are whole
    float* to = c.at;
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; ++row, to += row_stride) {
        float* const end = to + (VECTORS - 1) * WIDTH;
        if (beta != 0) {
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS - 1; ++v) sums[row][v] += beta * load(to + v * WIDTH);
            sums[row][VECTORS - 1] += beta * (last == WIDTH ? load(end) : load(end, last));
        }
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS - 1; ++v) store(to + v * WIDTH, sums[row][v]);
        if (last == WIDTH) store(end, sums[row][VECTORS - 1]);
        else store(end, sums[row][VECTORS - 1], last);
    }
}

// All rows: tiles of ROWS, then of fewer.
template <int ROWS, int VECTORS, class Element>
void multiply_rows(int m, Rows<Element> a, const Panel& b, Results c) {
    for (; m >= ROWS; m -= ROWS, a.at += ROWS * a.row_stride, c.at += ROWS * c.row_stride)
        multiply_tile<ROWS, VECTORS>(a, b, c);
    if constexpr (ROWS > 1)
        if (m > 0) multiply_rows<ROWS == 6 ? 4 : ROWS / 2, VECTORS>(m, a, b, c);
}

// Vectors of the widest tile: its sums are most of the vector registers, of which there are 32, or 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int WIDEST = 4;
#else
constexpr int WIDEST = 2;
#endif
constexpr int PANEL = WIDEST * WIDTH, STEPS = 128, BLOCK = 128;  // columns, steps along k, rows: up to 32 and 64 KiB
constexpr int CHUNK = 512;  // rows whose cells stay in the second-level cache from panel to panel: 256 KiB

// Columns of the next panel where so many are left: more than all vectors but one; 2 and 1 are cheaper than 4.
inline int panel_columns(int left) {
    const int vectors = left > 3 * WIDTH ? 4 : left > WIDTH ? 2 : 1;
    const int most = (vectors < WIDEST ? vectors : WIDEST) * WIDTH;
    return left < most ? left : most;
}

template <class Element>
void multiply_panel(int m, const Rows<Element>& a, const Panel& b, const Results& c) {
    if constexpr (WIDEST == 4)
        if (c.columns > 2 * WIDTH) return multiply_rows<6, 4>(m, a, b, c);
    if (c.columns > WIDTH) multiply_rows<WIDEST == 4 ? 8 : 6, 2>(m, a, b, c);
    else multiply_rows<8, 1>(m, a, b, c);
}

// Packed where a tile cannot read it in place, or where its rows lie so far apart that they evict each other from the
// cache; `m` rows of a read it.
template <class Element>
Panel as_panel(Operand<Element> b, int k, int columns, int m, float* cells) {
    const bool is_far_apart = b.row_stride > 256 && m > 16;
    const int steps = steps_of<Element>(k);
    if (sizeof(Element) == sizeof(float) && !b.has_k_along_rows && columns % WIDTH == 0 && !is_far_apart)
        return {reinterpret_cast<const float*>(b.at), b.row_stride, steps, 0, 1};
    b.pack(k, columns, cells, padded(columns));
    return {cells, padded(columns), steps, 0, 1};
}

// Packed where two elements that make a cell are not side by side.
template <class Element>
Rows<Element> as_rows(Operand<Element> a, int k, int rows, float* cells) {
    constexpr int LENGTH = ELEMENTS_OF_A_CELL<Element>;
    if (a.has_k_along_rows && k % LENGTH == 0) return {a.at, a.row_stride, LENGTH};
    if (LENGTH == 1) return {a.at, 1, a.row_stride};
    a.pack(k, rows, cells, BLOCK);
    return {reinterpret_cast<const Element*>(cells), LENGTH, LENGTH * BLOCK};
}

template <class Element>
void multiply_chunk(const GemmSizes& sizes, const Element* a, const Element* b, float beta, float* c) {
    alignas(64) float a_cells[STEPS * BLOCK], b_cells[STEPS * PANEL];
    constexpr int DEPTH = STEPS * ELEMENTS_OF_A_CELL<Element>;
    const Operand<Element> left{a, sizes.lda, !sizes.a_is_transposed}, right{b, sizes.ldb, !!sizes.b_is_transposed};
    for (int k = 0; k < sizes.k; k += DEPTH, beta = 1.0f) {
        const int depth = sizes.k - k < DEPTH ? sizes.k - k : DEPTH;
        for (int j = 0, columns; j < sizes.n; j += columns) {
            columns = panel_columns(sizes.n - j);
            const Panel panel = as_panel(right.from(k, j), depth, columns, sizes.m, b_cells);
            for (int i = 0; i < sizes.m; i += BLOCK) {
                const int count = sizes.m - i < BLOCK ? sizes.m - i : BLOCK;
                const Rows<Element> rows = as_rows(left.from(k, i), depth, count, a_cells);
                float* const to = c + (int64_t)i * sizes.ldc + j;
                multiply_panel(count, rows, panel, {to, sizes.ldc, columns, beta});
            }
        }
    }
}

template <class Element>
void multiply_by_tiles(const GemmSizes& sizes, const Element* a, const Element* b, float beta, float* c) {
    for (int row = 0; row < sizes.m; row += CHUNK) {
        GemmSizes chunk = sizes;
        chunk.m = sizes.m - row < CHUNK ? sizes.m - row : CHUNK;
        const int64_t first = sizes.a_is_transposed ? row : (int64_t)row * sizes.lda;
        multiply_chunk(chunk, a + first, b, beta, c + (int64_t)row * sizes.ldc);
    }
}

// The BLAS's, where it is the faster one; else null.
typedef void (*Sgemm)(const char*, const char*, const int*, const int*, const int*, const float*, const float*,
                      const int*, const float*, const int*, const float*, float*, const int*);
typedef void (*GemmBf16)(const char*, const char*, const int*, const int*, const int*, const float*, const BFloat16*,
                         const int*, const BFloat16*, const int*, const float*, float*, const int*);
Sgemm sgemm;
GemmBf16 gemm_bf16;
inline Sgemm blas(const float*) { return sgemm; }
inline GemmBf16 blas(const BFloat16*) { return gemm_bf16; }

// The BLAS is column-major: it computes the transposed matrices.
template <class Element>
void multiply(const GemmSizes& sizes, const Element* a, const Element* b, float beta, float* c) {
    const auto gemm = blas(a);
    if (!gemm) return multiply_by_tiles(sizes, a, b, beta, c);
    const float one = 1.0f;
    gemm(sizes.b_is_transposed ? "T" : "N", sizes.a_is_transposed ? "T" : "N", &sizes.n, &sizes.m, &sizes.k, &one, b,
         &sizes.ldb, a, &sizes.lda, &beta, c, &sizes.ldc);
}

// The operation `gemm`, for the numbers of `GemmSizes` and addresses of a, b and c.
template <class Element>
void multiply(const int32_t* n, float* const* p, float beta) {
    GemmSizes sizes;
    std::memcpy(&sizes, n, sizeof sizes);
    multiply(sizes, reinterpret_cast<const Element*>(p[0]), reinterpret_cast<const Element*>(p[1]), beta, p[2]);
}

// The operation `gemm_batch`: further numbers are count, and elements from an a to the next, from a b, from a c.
template <class Element>
void multiply_batch(const int32_t* n, float* const* p, float beta) {
    GemmSizes sizes;
    std::memcpy(&sizes, n, sizeof sizes);
    const int64_t count = n[8], next_a = n[9], next_b = n[10], next_c = n[11];
    for (int64_t i = 0; i < count; ++i)
        multiply(sizes, reinterpret_cast<const Element*>(p[0]) + i * next_a,
                 reinterpret_cast<const Element*>(p[1]) + i * next_b, beta, p[2] + i * next_c);
}

}  // namespace
