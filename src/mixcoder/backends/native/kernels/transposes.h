// Transposition of small blocks in registers.
#pragma once

#include <cstdint>
#include <cstring>

namespace {

// 8 of 4 bytes each: float32, or whatever is only moved.
typedef float Line __attribute__((vector_size(32)));

// Rows of x (8, 8), `row_bytes` apart ─▶ its columns. Where x has fewer rows, zeros stand for the others.
inline void transpose_8x8(const char* x, int64_t row_bytes, Line* columns, int rows = 8) {
    Line a[8] = {}, b[8];
    for (int i = 0; i < 8; ++i)
        if (i < rows) std::memcpy(&a[i], x + i * row_bytes, sizeof(Line));
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
        columns[i] = __builtin_shufflevector(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        columns[i + 4] = __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
#else
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 8; ++j) b[i][j] = a[j][i];
    std::memcpy(columns, b, sizeof b);
#endif
}

}  // namespace
