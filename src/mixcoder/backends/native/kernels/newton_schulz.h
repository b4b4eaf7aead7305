// Newton-Schulz steps, which bring the singular values of a matrix near 1, and the update of a parameter by its result.
//
//   x ─▶ x / ‖x‖ ─┬▶ near-square: gram = x xᵀ ─▶ x = a x + (b gram + c gram²) x, five times
//                 └▶ long: gram = x xᵀ once; the polynomials of all five steps on gram alone, then times x
//
// x xᵀ stands for xᵀ x where x has more rows than columns: both gram matrices are of the shorter side.
#pragma once

#include <cstdint>
#include <cstring>

#include "codes.h"
#include "optimizers.h"
#include "products.h"
#include "small_matrices.h"
#include "transposes.h"
#include "vectors.h"

namespace {

// The memory of one matrix in a batch: x and its successor (rows, columns), and square matrices of the shorter side. A
// long matrix has no operands in bfloat16, a near-square one no power and product.
struct Workspace {
    float *x, *next, *gram, *square, *power, *product;
    BFloat16 *operand, *other;
};

// A matrix (rows, columns), and its shorter side.
struct Shape {
    int rows, columns;
    bool is_high() const { return rows > columns; }
    int side() const { return is_high() ? columns : rows; }
    int64_t size() const { return (int64_t)rows * columns; }
    int64_t square() const { return (int64_t)side() * side(); }
};

// out = x * factor + y * other factor; out may be x or y.
inline void combine(int64_t count, float factor, const float* x, float other, const float* y, float* out) {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; ++i) out[i] = x[i] * factor + y[i] * other;
}

inline void to_operands(int64_t count, const float* x, BFloat16* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = as_bf16(x[i]);
}

// Products of a matrix in float32.
struct InFloat32 {
    typedef float Element;
    static const float* operand(int64_t, const float* x, BFloat16*) { return x; }
};

// The same of operands in bfloat16: where matrices are large, half the time.
struct InBFloat16 {
    typedef BFloat16 Element;
    static const BFloat16* operand(int64_t count, const float* x, BFloat16* memory) {
        to_operands(count, x, memory);
        return memory;
    }
};

// Copies what is right of the diagonal blocks (size, size) of c (side, side) to its mirror image.
inline void mirror(int side, int size, float* c) {
    for (int row = size; row < side; row += 8)
        for (int column = 0; column < row / size * size; column += 8) {
            const float* from = c + (int64_t)column * side + row;
            float* to = c + (int64_t)row * side + column;
            const int rows = side - row < 8 ? side - row : 8;
            if (rows == 8) {
                Line lines[8];
                transpose_8x8(reinterpret_cast<const char*>(from), side * sizeof(float), lines);
                for (int i = 0; i < 8; ++i) std::memcpy(to + (int64_t)i * side, &lines[i], sizeof(Line));
            } else {
                for (int i = 0; i < rows; ++i)
                    for (int j = 0; j < 8; ++j) to[(int64_t)i * side + j] = from[(int64_t)j * side + i];
            }
        }
}

// c (n, n) = op(a) op(b), which is known to be symmetric: from the diagonal blocks on to the right, then the mirror image.
template <class Element>
void multiply_symmetric(GemmSizes sizes, const Element* a, const Element* b, float* c) {
    const int side = sizes.n, size = side <= 128 ? 32 : 128;
    for (int row = 0; row < side; row += size) {
        sizes.m = side - row < size ? side - row : size;
        sizes.n = side - row;
        multiply(sizes, a + (sizes.a_is_transposed ? row : (int64_t)row * sizes.lda),
                 b + (sizes.b_is_transposed ? (int64_t)row * sizes.ldb : row), 0.0f, c + (int64_t)row * side + row);
    }
    mirror(side, size, c);
}

// gram (side, side) = x xᵀ, or xᵀ x where x is high.
template <class Precision>
void gram_of(Shape shape, const float* x, const Workspace& memory, float* gram) {
    const auto* operand = Precision::operand(shape.size(), x, memory.operand);
    const int side = shape.side(), depth = shape.is_high() ? shape.rows : shape.columns;
    const GemmSizes sizes{shape.is_high(), !shape.is_high(), side, side, depth, shape.columns, shape.columns, side};
    multiply_symmetric(sizes, operand, operand, gram);
}

// out = square x + beta out, or x square + beta out where x is high; `memory.operand` holds x in bfloat16 already.
template <class Precision>
void apply_square(Shape shape, const float* square, const float* x, const Workspace& memory, float beta, float* out) {
    typedef typename Precision::Element Element;
    const Element* factor = Precision::operand(shape.square(), square, memory.other);
    const Element* of = sizeof(Element) == sizeof(float) ? reinterpret_cast<const Element*>(x)
                                                         : reinterpret_cast<const Element*>(memory.operand);
    const int side = shape.side();
    if (shape.is_high()) multiply({0, 0, shape.rows, side, side, side, side, side}, of, factor, beta, out);
    else multiply({0, 0, side, shape.columns, side, side, shape.columns, shape.columns}, factor, of, beta, out);
}

// out (side, side) = left right, symmetric matrices that commute.
template <class Precision>
void multiply_squares(int side, const float* left, const float* right, const Workspace& memory, float* out) {
    const int64_t count = (int64_t)side * side;
    const auto* a = Precision::operand(count, left, memory.other);
    const auto* b = left == right ? a : Precision::operand(count, right, memory.other + count);
    multiply_symmetric({0, 0, side, side, side, side, side, side}, a, b, out);
}

// A step of a near-square matrix: memory.x is replaced by a x + (b gram + c gram²) x.
template <class Precision>
void take_step(Shape shape, Workspace& memory) {
    gram_of<Precision>(shape, memory.x, memory, memory.gram);
    multiply_squares<Precision>(shape.side(), memory.gram, memory.gram, memory, memory.square);
    combine(shape.square(), NEWTON_SCHULZ_B, memory.gram, NEWTON_SCHULZ_C, memory.square, memory.square);
    std::memcpy(memory.next, memory.x, shape.size() * sizeof(float));
    apply_square<Precision>(shape, memory.square, memory.x, memory, NEWTON_SCHULZ_A, memory.next);
    float* before = memory.x;
    memory.x = memory.next;
    memory.next = before;
}

// All steps of a long matrix: z = a + b gram + c gram², power = z power, gram = z gram z; at the end, power x.
inline void take_long_steps(Shape shape, Workspace& memory) {
    const int side = shape.side();
    gram_of<InFloat32>(shape, memory.x, memory, memory.gram);
    for (int step = 0; step < NEWTON_SCHULZ_STEPS; ++step) {
        multiply_squares<InFloat32>(side, memory.gram, memory.gram, memory, memory.square);
        combine(shape.square(), NEWTON_SCHULZ_B, memory.gram, NEWTON_SCHULZ_C, memory.square, memory.square);
        for (int64_t i = 0; i < shape.square(); i += side + 1) memory.square[i] += NEWTON_SCHULZ_A;
        float *z = memory.square, *power = memory.power;
        if (step == 0) std::memcpy(power, z, shape.square() * sizeof(float));
        else {
            multiply_squares<InFloat32>(side, z, power, memory, memory.product);
            memory.power = memory.product;
            memory.product = power;
        }
        if (step + 1 == NEWTON_SCHULZ_STEPS) break;
        multiply_squares<InFloat32>(side, z, memory.gram, memory, memory.product);
        multiply_squares<InFloat32>(side, memory.product, z, memory, memory.gram);
    }
    apply_square<InFloat32>(shape, memory.power, memory.x, memory, 0.0f, memory.next);
    memory.x = memory.next;
}

// Whether gram matrices of all steps cost less than products with x itself: 17 side³ + 2 side² long < 5 side³ +
// 10 side² long.
inline bool is_long(Shape shape) {
    const int side = shape.side(), length = shape.is_high() ? shape.rows : shape.columns;
    return 2 * length > 3 * side;
}

// parameter * weight_decay_factor - rate * (`update` with its singular values near 1).
void orthogonal_update(Shape shape, bool is_bf16, const MuonScalars& scalars, float rms_factor, const float* update,
                       Workspace memory, float* parameter) {
    const float norm = (float)__builtin_sqrt(sum_squares(shape.size(), update));
    const float inverse = 1 / (norm < SMALLEST_NORM ? SMALLEST_NORM : norm);
    for (int64_t i = 0; i < shape.size(); ++i) memory.x[i] = update[i] * inverse;
    if (is_long(shape)) take_long_steps(shape, memory);
    else
        for (int step = 0; step < NEWTON_SCHULZ_STEPS; ++step)
            if (is_bf16) take_step<InBFloat16>(shape, memory);
            else take_step<InFloat32>(shape, memory);
    combine(shape.size(), scalars.weight_decay_factor, parameter, -scalars.learning_rate * rms_factor, memory.x,
            parameter);
}

// The same for a batch of matrices one after the other; `memory` has room for a workspace.
void orthogonal_updates(int batch, Shape shape, bool is_bf16, const MuonScalars& scalars, float rms_factor,
                        const float* update, float* memory, float* parameter) {
    const int64_t size = shape.size(), square = shape.square();
    if (shape.rows <= LARGEST_IN_LANES && shape.columns <= LARGEST_IN_LANES)
        return small_orthogonal_updates(batch, shape.rows, shape.columns, scalars.weight_decay_factor,
                                        scalars.learning_rate * rms_factor, update, parameter);
    float* squares = memory + 2 * size;
    BFloat16* operands = reinterpret_cast<BFloat16*>(squares + 2 * square);
    const Workspace workspace{memory, memory + size, squares, squares + square, squares + 2 * square,
                              squares + 3 * square, operands, operands + size};
    for (int i = 0; i < batch; ++i)
        orthogonal_update(shape, is_bf16, scalars, rms_factor, update + i * size, workspace, parameter + i * size);
}

}  // namespace
