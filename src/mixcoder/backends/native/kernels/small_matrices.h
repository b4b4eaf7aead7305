// Newton-Schulz steps of small matrices: as many at a time as a vector has elements, each matrix in a lane of its own.
#pragma once

#include <cstdint>

#include "codes.h"
#include "vectors.h"

namespace {

constexpr int LARGEST_IN_LANES = 8;  // rows and columns, with which a matrix of vectors stays in the first-level cache
constexpr int LANE_ELEMENTS = LARGEST_IN_LANES * LARGEST_IN_LANES;

// A small matrix (side, length), side the shorter one, and the steps between its elements along both.
struct SmallShape {
    int side, length, across, along;
    int at(int i, int k) const { return i * across + k * along; }
};

// square (side, side) = a + b gram + c gram², for the gram matrix of x.
inline void polynomial_in_lanes(SmallShape shape, const Vec* x, Vec* square) {
    const int side = shape.side;
    Vec gram[LANE_ELEMENTS];
    for (int i = 0; i < side; ++i)
        for (int j = 0; j <= i; ++j) {
            Vec total{};
            for (int k = 0; k < shape.length; ++k) total += x[shape.at(i, k)] * x[shape.at(j, k)];
            gram[i * side + j] = gram[j * side + i] = total;
        }
    for (int i = 0; i < side; ++i)
        for (int j = 0; j <= i; ++j) {
            Vec total{};
            for (int k = 0; k < side; ++k) total += gram[i * side + k] * gram[j * side + k];
            total = total * NEWTON_SCHULZ_C + gram[i * side + j] * NEWTON_SCHULZ_B;
            if (i == j) total += NEWTON_SCHULZ_A;
            square[i * side + j] = square[j * side + i] = total;
        }
}

// x is replaced by (a + b gram + c gram²) x.
inline void step_in_lanes(SmallShape shape, Vec* x) {
    const int side = shape.side;
    Vec square[LANE_ELEMENTS], column[LARGEST_IN_LANES];
    polynomial_in_lanes(shape, x, square);
    for (int k = 0; k < shape.length; ++k) {
        for (int i = 0; i < side; ++i) {
            column[i] = Vec{};
            for (int j = 0; j < side; ++j) column[i] += square[i * side + j] * x[shape.at(j, k)];
        }
        for (int i = 0; i < side; ++i) x[shape.at(i, k)] = column[i];
    }
}

// x / ‖x‖, each lane by its own norm.
inline void normalize_in_lanes(int elements, Vec* x) {
    Vec squares{}, inverse{};
    for (int i = 0; i < elements; ++i) squares += x[i] * x[i];
    for (int lane = 0; lane < WIDTH; ++lane) {
        const float norm = __builtin_sqrtf(squares[lane]);
        inverse[lane] = 1 / (norm < SMALLEST_NORM ? SMALLEST_NORM : norm);
    }
    for (int i = 0; i < elements; ++i) x[i] *= inverse;
}

// Matrices (batch, rows, columns), small ones: parameter * decay - rate * (`update` with its singular values near 1).
void small_orthogonal_updates(int batch, int rows, int columns, float decay, float rate, const float* update,
                              float* parameter) {
    const SmallShape shape = rows > columns ? SmallShape{columns, rows, 1, columns} : SmallShape{rows, columns, columns, 1};
    const int elements = rows * columns;
    for (int first = 0; first < batch; first += WIDTH, update += WIDTH * elements, parameter += WIDTH * elements) {
        const int count = batch - first < WIDTH ? batch - first : WIDTH;
        Vec x[LANE_ELEMENTS] = {};
        for (int lane = 0; lane < count; ++lane)
            for (int i = 0; i < elements; ++i) x[i][lane] = update[lane * elements + i];
        normalize_in_lanes(elements, x);
        for (int step = 0; step < NEWTON_SCHULZ_STEPS; ++step) step_in_lanes(shape, x);
        for (int lane = 0; lane < count; ++lane)
            for (int i = 0; i < elements; ++i) {
                float& value = parameter[lane * elements + i];
                value = value * decay - rate * x[i][lane];
            }
    }
}

}  // namespace
