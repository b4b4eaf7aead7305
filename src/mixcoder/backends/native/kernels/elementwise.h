// A group of elementwise computations, with the sums among them, in one pass over memory: a small vector machine.
//
//   operands in memory ─▶ blocks (rows, columns) ─▶ instructions on values in the first-level cache ─▶ results
//
// Python compiles a group to a plan (elementwise.py). The arrays of a group lie along the same six axes, the last of
// which are a block's columns and the one before them its rows. A value is a full block, or `reduced`: one element a
// row, or one a column where the rows are summed. It lies at an operand's own place, or in a register.
#pragma once

#include <cstdint>
#include <cstring>

#include "codes.h"
#include "functions.h"
#include "movement.h"
#include "vectors.h"

namespace {
namespace elementwise {

// The plan's arrays follow it in this order.
struct Plan {
    int64_t registers, sums;  // addresses
    int32_t sizes[AXES];
    int32_t column_axes, sums_rows, block_rows, block_columns;
    int32_t operands, values, results, instructions, pitch, unused;
};

// Elements to go for one step along each axis; `column` along all columns, where that is one number, or -1.
struct Operand {
    int32_t steps[AXES], column;
};

// A value that is no operand: whether it is reduced.
struct Register {
    int32_t is_reduced;
};

// A sum, or maximum, over blocks: a double for each element of the result, at `offset` of all sums.
struct Result {
    int32_t is_maximum, offset, elements;
    int32_t steps[AXES], column, out_steps[AXES];
};

struct Instruction {
    int32_t code, function, is_reduced;
    int32_t out, out2, a, b, c;  // values; of LOAD and STORE an operand, of ACCUMULATE a result is `b`
    float first, second;
};

// Where a value lies now.
struct Slot {
    float* at;
    int64_t row, column;
};

// The part of the arrays that a block covers: its first row and column, its sizes.
struct Block {
    int64_t first_row, first_column;
    int rows, columns;
};

// ── loops over a block ────────────────────────────────────────────────────────────────────────────────────────────

// A vector of a row, or its one element repeated.
template <bool REPEATED>
inline Vec take(const float* row, Vec repeated, int i) {
    return REPEATED ? repeated : load(row + i);
}
template <bool REPEATED>
inline Vec take(const float* row, Vec repeated, int i, int count) {
    return REPEATED ? repeated : load(row + i, count);
}

// A value that a loop goes over: rows of vectors, or of one element repeated.
template <bool REPEATED>
struct ValueRows {
    Slot slot;
    Vec one;
    explicit ValueRows(Slot slot) : slot(slot) {}
    void begin() { one = REPEATED ? all(*slot.at) : Vec{}; }
    void next() { slot.at += slot.row; }
    Vec at(int i) const { return take<REPEATED>(slot.at, one, i); }
    Vec at(int i, int count) const { return take<REPEATED>(slot.at, one, i, count); }
};

template <class Function, class... Values>
void loop(int rows, int columns, Slot out, Function function, Values... values) {
    for (int row = 0; row < rows; ++row, out.at += out.row, (values.next(), ...)) {
        (values.begin(), ...);
        int i = 0;
        for (; i + WIDTH <= columns; i += WIDTH) store(out.at + i, function(values.at(i)...));
        if (i < columns) store(out.at + i, function(values.at(i, columns - i)...), columns - i);
    }
}

// Whether all rows are one, or all elements.
inline bool is_one_line(const Slot& x, int columns) {
    return x.column == 1 ? x.row == columns : x.row == 0;
}

// Sizes and slots of an instruction as few rows as possible. Reduced values of all rows are one row.
template <int COUNT>
void straighten(bool is_reduced, bool sums_rows, int& rows, int& columns, Slot (&slots)[COUNT]) {
    if (is_reduced && !sums_rows) {
        for (Slot& slot : slots) slot.column = slot.row;
        columns = rows;
    }
    if (is_reduced) rows = 1;
    for (const Slot& slot : slots)
        if (!is_one_line(slot, columns)) return;
    columns *= rows;
    rows = 1;
}

// The loop for values of which LEFT are not yet known to be repeated or not.
template <int LEFT, class Function, class... Known>
void choose(int rows, int columns, Slot out, Function function, const Slot* next, Known... known) {
    if constexpr (LEFT == 0) loop(rows, columns, out, function, known...);
    else if (next->column) choose<LEFT - 1>(rows, columns, out, function, next + 1, known..., ValueRows<false>(*next));
    else choose<LEFT - 1>(rows, columns, out, function, next + 1, known..., ValueRows<true>(*next));
}

// out = function(values).
template <class Function, class... Slots>
void combine(const Instruction& now, bool sums_rows, Block block, Function function, Slot out, Slots... values) {
    int rows = block.rows, columns = block.columns;
    Slot slots[] = {out, values...};
    straighten(now.is_reduced, sums_rows, rows, columns, slots);
    choose<sizeof...(values)>(rows, columns, slots[0], function, slots + 1);
}

// ── functions of one value ────────────────────────────────────────────────────────────────────────────────────────

// Rows of out, and of out2 where a function gives two values. Of(x, value, second value).
template <bool IS_PAIR, class Of>
void loop_function(int rows, int columns, Slot out, Slot out2, Slot x, Of of) {
    for (int row = 0; row < rows; ++row, out.at += out.row, out2.at += out2.row, x.at += x.row) {
        const Vec repeated = all(*x.at);
        Vec value, second;
        int i = 0;
        for (; i + WIDTH <= columns; i += WIDTH) {
            of(x.column ? load(x.at + i) : repeated, value, second);
            store(out.at + i, value);
            if (IS_PAIR) store(out2.at + i, second);
        }
        if (i < columns) {
            of(x.column ? load(x.at + i, columns - i) : repeated, value, second);
            store(out.at + i, value, columns - i);
            if (IS_PAIR) store(out2.at + i, second, columns - i);
        }
    }
}

typedef void (*Unary)(const Instruction&, int rows, int columns, Slot out, Slot out2, Slot x);

template <class Function>
void plain_value(const Instruction& now, int rows, int columns, Slot out, Slot out2, Slot x) {
    const float first = now.first, second = now.second;
    loop_function<false>(rows, columns, out, out2, x,
                         [=](Vec z, Vec& value, Vec&) { value = Function::of(z, first, second); });
}

template <class Function>
void value_of(const Instruction& now, int rows, int columns, Slot out, Slot out2, Slot x) {
    const float first = now.first, second = now.second;
    loop_function<false>(rows, columns, out, out2, x, [=](Vec z, Vec& value, Vec&) {
        Vec derivative;
        Function::of(z, first, second, value, derivative);
    });
}

template <class Function>
void both_of(const Instruction& now, int rows, int columns, Slot out, Slot out2, Slot x) {
    const float first = now.first, second = now.second;
    loop_function<true>(rows, columns, out, out2, x, [=](Vec z, Vec& value, Vec& derivative) {
        Function::of(z, first, second, value, derivative);
    });
}

#define PLAIN_VALUE(name) plain_value<functions::name>,
#define VALUE_OF(name) value_of<functions::name>,
#define BOTH_OF(name) both_of<functions::name>,
constexpr Unary VALUES[] = {PLAIN_FUNCTIONS(PLAIN_VALUE) PAIRED_FUNCTIONS(VALUE_OF)};
constexpr Unary BOTH[] = {PAIRED_FUNCTIONS(BOTH_OF)};

inline void call(Unary function, const Instruction& now, bool sums_rows, Block block, Slot out, Slot out2, Slot x) {
    int rows = block.rows, columns = block.columns;
    Slot slots[] = {out, out2, x};
    straighten(now.is_reduced, sums_rows, rows, columns, slots);
    function(now, rows, columns, slots[0], slots[1], slots[2]);
}

// ── sums within a block ───────────────────────────────────────────────────────────────────────────────────────────

// The larger of each; NaN where one is NaN.
template <class Number>
inline Number larger(Number a, Number b) {
    return (a >= b) | (a != a) ? a : b;
}

struct Total {
    template <class Vector>
    static Vector of(Vector a, Vector b) {
        return a + b;
    }
};

struct Largest {
    template <class Vector>
    static Vector of(Vector a, Vector b) {
        return larger(a, b);
    }
};

// The elements of a vector as one.
template <class Reduce>
inline float across(Vec x) {
    float lanes[WIDTH];
    store(lanes, x);
    for (int half = WIDTH / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] = Reduce::of(lanes[i], lanes[i + half]);
    return lanes[0];
}
template <>
inline float across<Total>(Vec x) {
    return sum(x);
}

// out (rows) = the elements of one vector for each row, as one. Eight vectors are transposed together.
template <class Reduce, class OfRow>
void reduce_columns(int rows, Slot out, OfRow of_row) {
    int row = 0;
    if (WIDTH >= 8 && out.row == 1)
        for (; row + 8 <= rows; row += 8) {
            alignas(64) float lanes[8 * WIDTH];
            for (int i = 0; i < 8; ++i) store(lanes + i * WIDTH, of_row(row + i));
            Line result;
            for (int column = 0; column < WIDTH; column += 8) {
                Line lines[8];
                transpose_8x8(reinterpret_cast<const char*>(lanes + column), WIDTH * sizeof(float), lines);
                for (int distance = 4; distance > 0; distance /= 2)
                    for (int i = 0; i < distance; ++i) lines[i] = Reduce::of(lines[i], lines[i + distance]);
                result = column ? Reduce::of(result, lines[0]) : lines[0];
            }
            std::memcpy(out.at + row, &result, sizeof result);
        }
    for (; row < rows; ++row) out.at[row * out.row] = across<Reduce>(of_row(row));
}

// The first `count` elements, then one of them again.
inline Vec padded(Vec x, int count) {
    for (int i = count; i < WIDTH; ++i) x[i] = x[0];
    return x;
}

struct Values {
    Slot a, b;
    Vec at(int64_t row, int i) const { return load(a.at + row * a.row + i); }
    Vec at(int64_t row, int i, int count) const { return load(a.at + row * a.row + i, count); }
};

struct Products {
    Slot a, b;
    Vec at(int64_t row, int i) const { return load(a.at + row * a.row + i) * load(b.at + row * b.row + i); }
    Vec at(int64_t row, int i, int count) const {
        return load(a.at + row * a.row + i, count) * load(b.at + row * b.row + i, count);
    }
};

// The sum of a row in each element's place within a vector.
template <class Terms>
inline Vec sum_of_row(const Terms& terms, int64_t row, int columns) {
    Vec total{}, other{};
    int i = 0;
    for (; i + 2 * WIDTH <= columns; i += 2 * WIDTH) {
        total += terms.at(row, i);
        other += terms.at(row, i + WIDTH);
    }
    if (i + WIDTH <= columns) total += terms.at(row, i), i += WIDTH;
    if (i < columns) other += terms.at(row, i, columns - i);
    return total + other;
}

// out (rows) = the sums of rows.
template <class Terms>
void sum_columns(Block block, Slot out, Terms terms) {
    const int columns = block.columns;
    reduce_columns<Total>(block.rows, out, [=](int64_t row) { return sum_of_row(terms, row, columns); });
}

// out (columns) = the sums of columns.
template <class Terms>
void sum_rows(Block block, Slot out, Terms terms) {
    for (int i = 0; i < block.columns; i += WIDTH) {
        const int count = block.columns - i < WIDTH ? block.columns - i : WIDTH;
        Vec total{};
        for (int row = 0; row < block.rows; ++row)
            total += count == WIDTH ? terms.at(row, i) : terms.at(row, i, count);
        store(out.at + i, total, count);
    }
}

inline void largest_of_columns(Block block, Slot out, Slot x) {
    const int columns = block.columns;
    reduce_columns<Largest>(block.rows, out, [=](int64_t row) {
        const float* from = x.at + row * x.row;
        Vec value = columns >= WIDTH ? load(from) : padded(load(from, columns), columns);
        int i = WIDTH;
        for (; i + WIDTH <= columns; i += WIDTH) value = larger(value, load(from + i));
        if (i < columns) value = larger(value, padded(load(from + i, columns - i), columns - i));
        return value;
    });
}

inline void largest_of_rows(Block block, Slot out, Slot x) {
    for (int i = 0; i < block.columns; i += WIDTH) {
        const int count = block.columns - i < WIDTH ? block.columns - i : WIDTH;
        Vec value = load(x.at + i, count);
        for (int row = 1; row < block.rows; ++row) value = larger(value, load(x.at + row * x.row + i, count));
        store(out.at + i, value, count);
    }
}

// ── sums over blocks ──────────────────────────────────────────────────────────────────────────────────────────────

inline void add_to(double* to, Vec x, int count) {
    typedef float Half __attribute__((vector_size(VECTOR_BYTES / 2)));
    typedef double Doubles __attribute__((vector_size(VECTOR_BYTES)));
    if (count < WIDTH) {
        for (int i = 0; i < count; ++i) to[i] += x[i];
        return;
    }
    Half halves[2];
    std::memcpy(halves, &x, sizeof x);
    for (int i = 0; i < 2; ++i, to += WIDTH / 2) {
        Doubles sums;
        std::memcpy(&sums, to, sizeof sums);
        sums += __builtin_convertvector(halves[i], Doubles);
        std::memcpy(to, &sums, sizeof sums);
    }
}

// The steps of the last three axes, the columns.
struct ColumnAxes {
    int size[3];
    int64_t step[3];
    ColumnAxes(const Plan& plan, int columns, const int32_t* steps) {
        for (int i = 0; i < 3; ++i) {
            const bool is_column = i >= 3 - plan.column_axes;
            size[i] = is_column ? plan.sizes[AXES - 3 + i] : 1;
            step[i] = is_column ? steps[AXES - 3 + i] : 0;
        }
        if (plan.column_axes == 1) size[2] = columns;  // a block may have fewer
    }
};

inline void accumulate_each(const Plan& plan, const Result& result, Block block, Slot x, double* to) {
    const ColumnAxes axes(plan, block.columns, result.steps);
    const int64_t step = result.steps[AXES - 1 - plan.column_axes];
    for (int row = 0; row < block.rows; ++row) {
        const float* from = x.at + row * x.row;
        for (int i = 0; i < axes.size[0]; ++i)
            for (int j = 0; j < axes.size[1]; ++j)
                for (int k = 0; k < axes.size[2]; ++k, from += x.column) {
                    double& sum = to[row * step + i * axes.step[0] + j * axes.step[1] + k * axes.step[2]];
                    sum = result.is_maximum ? larger<double>(sum, *from) : sum + *from;
                }
    }
}

// Adds a block to a result; `to` is the block's first element there.
inline void accumulate(const Plan& plan, const Result& result, Block block, Slot x, double* to) {
    const int64_t step = result.steps[AXES - 1 - plan.column_axes];
    if (result.is_maximum || x.column == 0 || result.column < 0 || result.column > 1)
        return accumulate_each(plan, result, block, x, to);
    if (result.column == 0) {
        const Values values{x, x};
        for (int row = 0; row < block.rows; ++row) to[row * step] += sum(sum_of_row(values, row, block.columns));
        return;
    }
    const int runs = step ? block.rows : 1, rows = step ? 1 : block.rows;
    for (int run = 0; run < runs; ++run)
        for (int i = 0; i < block.columns; i += WIDTH) {
            const int count = block.columns - i < WIDTH ? block.columns - i : WIDTH;
            const float* from = x.at + run * x.row + i;
            Vec total{};
            for (int row = 0; row < rows; ++row, from += x.row)
                total += count == WIDTH ? load(from) : load(from, count);
            add_to(to + run * step + i, total, count);
        }
}

inline void write_result(const Plan& plan, const Result& result, const double* sums, float* out) {
    int size[AXES];
    for (int axis = 0; axis < AXES; ++axis) size[axis] = result.steps[axis] ? plan.sizes[axis] : 1;
    int at[AXES] = {};
    for (int left = result.elements; left > 0; --left) {
        int64_t from = 0, to = 0;
        for (int axis = 0; axis < AXES; ++axis) {
            from += (int64_t)at[axis] * result.steps[axis];
            to += (int64_t)at[axis] * result.out_steps[axis];
        }
        out[to] = (float)sums[from];
        for (int axis = AXES - 1; axis >= 0 && ++at[axis] == size[axis]; --axis) at[axis] = 0;
    }
}

// ── moves between memory and registers ────────────────────────────────────────────────────────────────────────────

// Moves a block between an operand, whose steps may be any, and a register.
inline void move_block(const Plan& plan, const Operand& operand, const Instruction& now, Block block, float* memory,
                       Slot x) {
    const bool is_load = static_cast<InstructionCode>(now.code) == InstructionCode::LOAD;
    const int64_t row_step = operand.steps[AXES - 1 - plan.column_axes];
    if (now.is_reduced) {
        const int64_t step = plan.sums_rows ? operand.steps[AXES - 1] : row_step;
        const int count = plan.sums_rows ? block.columns : block.rows;
        if (is_load) move_line(count, memory, step, x.at, 1, false);
        else move_line(count, x.at, 1, memory, step, false);
        return;
    }
    const ColumnAxes axes(plan, block.columns, operand.steps);
    const PlaneSteps steps{row_step, axes.step[2]}, of_register{x.row, 1};
    for (int i = 0; i < axes.size[0]; ++i)
        for (int j = 0; j < axes.size[1]; ++j, x.at += axes.size[2]) {
            float* part = memory + i * axes.step[0] + j * axes.step[1];
            if (is_load) move_plane(block.rows, axes.size[2], part, steps, x.at, of_register, false);
            else move_plane(block.rows, axes.size[2], x.at, of_register, part, steps, false);
        }
}

// ── the machine ───────────────────────────────────────────────────────────────────────────────────────────────────

constexpr int MOST_VALUES = 96;

class Machine {
  public:
    Machine(const Plan& plan, float* const* memory)
        : plan(plan),
          memory(memory),
          operands(reinterpret_cast<const Operand*>(&plan + 1)),
          registers(reinterpret_cast<const Register*>(operands + plan.operands)),
          results(reinterpret_cast<const Result*>(registers + plan.values - plan.operands)),
          instructions(reinterpret_cast<const Instruction*>(results + plan.results)),
          sums(reinterpret_cast<double*>(plan.sums)) {}

    void run() {
        for (const Result* result = results; result < results + plan.results; ++result)
            for (int i = 0; i < result->elements; ++i)
                sums[result->offset + i] = result->is_maximum ? -__builtin_inf() : 0.0;
        const int row_axis = AXES - 1 - plan.column_axes;
        int64_t outer = 1;
        for (int axis = 0; axis < row_axis; ++axis) outer *= plan.sizes[axis];
        for (; outer > 0; --outer) {
            run_blocks(row_axis);
            for (int axis = row_axis - 1; axis >= 0 && ++index[axis] == plan.sizes[axis]; --axis) index[axis] = 0;
        }
        for (int i = 0; i < plan.results; ++i)
            write_result(plan, results[i], sums + results[i].offset, memory[plan.operands + i]);
    }

  private:
    const Plan& plan;
    float* const* memory;
    const Operand* operands;
    const Register* registers;
    const Result* results;
    const Instruction* instructions;
    double* sums;
    int index[AXES] = {};
    Slot slots[MOST_VALUES];
    double* totals[MOST_VALUES];

    void run_blocks(int row_axis) {
        int columns = 1;
        for (int axis = row_axis + 1; axis < AXES; ++axis) columns *= plan.sizes[axis];
        for (int row = 0; row < plan.sizes[row_axis]; row += plan.block_rows)
            for (int column = 0; column < columns; column += plan.block_columns) {
                const int rows_left = plan.sizes[row_axis] - row, columns_left = columns - column;
                index[row_axis] = row, index[AXES - 1] = column;
                run_block({row, column, rows_left < plan.block_rows ? rows_left : plan.block_rows,
                           columns_left < plan.block_columns ? columns_left : plan.block_columns});
            }
        index[row_axis] = index[AXES - 1] = 0;
    }

    int64_t offset(const int32_t* steps) const {
        int64_t total = 0;
        for (int axis = 0; axis < AXES; ++axis) total += (int64_t)index[axis] * steps[axis];
        return total;
    }

    void run_block(Block block) {
        for (int i = 0; i < plan.operands; ++i)
            slots[i] = {memory[i] + offset(operands[i].steps), operands[i].steps[AXES - 1 - plan.column_axes],
                        operands[i].column};
        float* next = reinterpret_cast<float*>(plan.registers);
        for (int i = plan.operands; i < plan.values; ++i, next += plan.pitch) {
            const bool is_reduced = registers[i - plan.operands].is_reduced;
            slots[i] = {next, is_reduced ? !plan.sums_rows : block.columns, is_reduced ? plan.sums_rows : 1};
        }
        for (int i = 0; i < plan.results; ++i)
            totals[i] = sums + results[i].offset + offset(results[i].steps);
        for (int i = 0; i < plan.instructions; ++i) execute(instructions[i], block);
    }

    void execute(const Instruction& now, Block block) {
        const Slot out = slots[now.out], a = slots[now.a], b = slots[now.b], c = slots[now.c];
        const float first = now.first, second = now.second;
        const bool sums_rows = plan.sums_rows;
        switch (static_cast<InstructionCode>(now.code)) {
            case InstructionCode::LOAD: return move_block(plan, operands[now.b], now, block, b.at, out);
            case InstructionCode::STORE: return move_block(plan, operands[now.b], now, block, b.at, a);
            case InstructionCode::ADD:
                return combine(now, sums_rows, block, [](Vec x, Vec y) { return x + y; }, out, a, b);
            case InstructionCode::MULTIPLY:
                return combine(now, sums_rows, block, [](Vec x, Vec y) { return x * y; }, out, a, b);
            case InstructionCode::MULTIPLY_ADD:
                return combine(now, sums_rows, block, [](Vec x, Vec y, Vec z) { return x * y + z; }, out, a, b, c);
            case InstructionCode::KEEP:
                return combine(now, sums_rows, block, [](Vec x, Vec y) { return y != Vec{} ? x : Vec{}; }, out, a, b);
            case InstructionCode::ADD_SCALED:
                return combine(now, sums_rows, block, [=](Vec x, Vec y) { return x + y * first; }, out, a, b);
            case InstructionCode::AFFINE:
                return combine(now, sums_rows, block, [=](Vec x) { return x * first + second; }, out, a);
            case InstructionCode::VALUE: return call(VALUES[now.function], now, sums_rows, block, out, out, a);
            case InstructionCode::BOTH:
                return call(BOTH[now.function], now, sums_rows, block, out, slots[now.out2], a);
            case InstructionCode::SUM:
                return sums_rows ? sum_rows(block, out, Values{a, a}) : sum_columns(block, out, Values{a, a});
            case InstructionCode::DOT:
                return sums_rows ? sum_rows(block, out, Products{a, b}) : sum_columns(block, out, Products{a, b});
            case InstructionCode::LARGEST:
                return sums_rows ? largest_of_rows(block, out, a) : largest_of_columns(block, out, a);
            case InstructionCode::ACCUMULATE:
                return accumulate(plan, results[now.b], block, a, totals[now.b]);
        }
    }
};

inline void run(const void* plan, float* const* memory) { Machine(*static_cast<const Plan*>(plan), memory).run(); }

}  // namespace elementwise
}  // namespace
