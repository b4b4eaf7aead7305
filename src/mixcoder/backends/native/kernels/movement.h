// Copies of arrays into another order in memory.
#pragma once

#include <cstdint>
#include <cstring>

#include "codes.h"
#include "transposes.h"
#include "vectors.h"

namespace {

// x (blocks, outer, inner, columns) ─▶ (blocks, inner, outer, columns).
inline void transpose(int blocks, int outer, int inner, int columns, const float* x, float* out) {
    const int64_t size = (int64_t)outer * inner * columns;
    for (int block = 0; block < blocks; ++block, out += size)
        for (int o = 0; o < outer; ++o)
            for (int i = 0; i < inner; ++i, x += columns)
                std::memcpy(out + ((int64_t)i * outer + o) * columns, x, columns * sizeof(float));
}

// Strides of (blocks, more blocks, rows, columns) in elements; columns are contiguous.
struct Strides {
    int64_t block, next_block, row;
};

// out (8, 8) = x (8, 8) transposed, or added to out.
inline void permute_8x8(const float* x, int64_t x_row, float* out, int64_t out_row, bool is_added) {
    Line columns[8];
    transpose_8x8(reinterpret_cast<const char*>(x), x_row * sizeof(float), columns);
    for (int i = 0; i < 8; ++i) {
        Line before{};
        if (is_added) std::memcpy(&before, out + i * out_row, sizeof(Line));
        columns[i] += before;
        std::memcpy(out + i * out_row, &columns[i], sizeof(Line));
    }
}

// x (rows, columns) ─▶ (columns, rows), or added to out, for at most 8 of each.
inline void permute_tile(int rows, int columns, const float* x, int64_t x_row, float* out, int64_t out_row,
                      bool is_added) {
    if (rows == 8 && columns == 8) return permute_8x8(x, x_row, out, out_row, is_added);
    for (int r = 0; r < rows; ++r)
        for (int c = 0; c < columns; ++c) {
            const float value = x[r * x_row + c];
            out[c * out_row + r] = is_added ? out[c * out_row + r] + value : value;
        }
}

// x (blocks, more, rows, columns) ─▶ (blocks, more, columns, rows), or added to out.
inline void permute(int blocks, int more, int rows, int columns, Strides x_at, Strides out_at, bool is_added, const float* x,
             float* out) {
    const bool is_long = rows > columns;  // whole cache lines along the longer axis
    const int line = is_long ? 16 : 8, column_line = is_long ? 8 : 16;
    for (int block = 0; block < blocks * more; ++block) {
        const float* from = x + block / more * x_at.block + block % more * x_at.next_block;
        float* to = out + block / more * out_at.block + block % more * out_at.next_block;
        const auto permute_lines = [=](int row, int column) {
            for (int r = row; r < rows && r < row + line; r += 8)
                for (int c = column; c < columns && c < column + column_line; c += 8)
                    permute_tile(rows - r < 8 ? rows - r : 8, columns - c < 8 ? columns - c : 8, from + r * x_at.row + c,
                              x_at.row, to + c * out_at.row + r, out_at.row, is_added);
        };
        if (is_long)
            for (int r = 0; r < rows; r += line)
                for (int c = 0; c < columns; c += column_line) permute_lines(r, c);
        else
            for (int c = 0; c < columns; c += column_line)
                for (int r = 0; r < rows; r += line) permute_lines(r, c);
    }
}

// A copy of an array of six axes; steps in elements, of the source and of the target.
struct Move {
    int32_t sizes[AXES], from[AXES], to[AXES];
};

// `count` elements, or their sums with what is there.
inline void move_line(int count, const float* from, int64_t from_step, float* to, int64_t to_step, bool is_added) {
    int i = 0;
    if (to_step == 1 && (from_step == 0 || from_step == 1)) {
        const Vec one = all(*from);
        for (; i + WIDTH <= count; i += WIDTH) {
            const Vec value = from_step ? load(from + i) : one;
            store(to + i, is_added ? load(to + i) + value : value);
        }
        if (i < count) {
            const Vec value = from_step ? load(from + i, count - i) : one;
            store(to + i, is_added ? load(to + i, count - i) + value : value, count - i);
        }
        return;
    }
    for (; i < count; ++i) {
        const float value = from[i * from_step];
        to[i * to_step] = is_added ? to[i * to_step] + value : value;
    }
}

// Elements to go from a row and a column of a plane to the next.
struct PlaneSteps {
    int64_t row, column;
};

// Copies, or adds, a plane (rows, columns), in tiles where columns lie side by side in the target, and rows in the source.
inline void move_plane(int rows, int columns, const float* source, PlaneSteps from, float* target, PlaneSteps to,
                       bool is_added) {
    if (from.row == 1 && to.column == 1 && from.column != 1 && rows > 1 && columns > 1)
        return permute(1, 1, columns, rows, {0, 0, from.column}, {0, 0, to.row}, is_added, source, target);
    if (from.column == 1 && to.row == 1 && to.column != 1 && rows > 1 && columns > 1)
        return permute(1, 1, rows, columns, {0, 0, from.row}, {0, 0, to.column}, is_added, source, target);
    for (int row = 0; row < rows; ++row, source += from.row, target += to.row)
        move_line(columns, source, from.column, target, to.column, is_added);
}

// Copies, or adds, source to target, one plane of the last two axes after the other.
inline void move(const Move& plan, bool is_added, const float* source, float* target) {
    const int32_t *sizes = plan.sizes, *from = plan.from, *to = plan.to;
    constexpr int LAST = AXES - 1, BEFORE = AXES - 2;
    int64_t outer = 1;
    for (int axis = 0; axis < BEFORE; ++axis) outer *= sizes[axis];
    for (int index[AXES] = {}; outer > 0; --outer) {
        const float* x = source;
        float* out = target;
        for (int axis = 0; axis < BEFORE; ++axis) {
            x += (int64_t)index[axis] * from[axis];
            out += (int64_t)index[axis] * to[axis];
        }
        move_plane(sizes[BEFORE], sizes[LAST], x, {from[BEFORE], from[LAST]}, out, {to[BEFORE], to[LAST]}, is_added);
        for (int axis = BEFORE - 1; axis >= 0 && ++index[axis] == sizes[axis]; --axis) index[axis] = 0;
    }
}

}  // namespace
