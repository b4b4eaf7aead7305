// Matrix products of float32 or bfloat16 operands, with float32 results.
#pragma once

#include <cstdint>

#include "vectors.h"

namespace {

typedef void (*Sgemm)(const char*, const char*, const int*, const int*, const int*, const float*, const float*,
                      const int*, const float*, const int*, const float*, float*, const int*);
typedef void (*GemmBf16)(const char*, const char*, const int*, const int*, const int*, const float*, const BFloat16*,
                         const int*, const BFloat16*, const int*, const float*, float*, const int*);
Sgemm sgemm;
GemmBf16 gemm_bf16;

inline void call_blas(const char* a_is, const char* b_is, const int* m, const int* n, const int* k, const float* a,
                      const int* lda, const float* b, const int* ldb, const float* beta, float* c, const int* ldc) {
    const float one = 1.0f;
    sgemm(a_is, b_is, m, n, k, &one, a, lda, b, ldb, beta, c, ldc);
}

inline void call_blas(const char* a_is, const char* b_is, const int* m, const int* n, const int* k, const BFloat16* a,
                      const int* lda, const BFloat16* b, const int* ldb, const float* beta, float* c, const int* ldc) {
    const float one = 1.0f;
    gemm_bf16(a_is, b_is, m, n, k, &one, a, lda, b, ldb, beta, c, ldc);
}

// c (m, n) = op(a) op(b) + beta c, for sizes (a is transposed, b is transposed, m, n, k, lda, ldb, ldc) and addresses
// (a, b, c). The BLAS is column-major: it computes the transposed matrices.
template <class Element>
void multiply(const int32_t* n, const Element* a, const Element* b, float beta, float* c) {
    call_blas(n[1] ? "T" : "N", n[0] ? "T" : "N", &n[3], &n[2], &n[4], b, &n[6], a, &n[5], &beta, c, &n[7]);
}

template <class Element>
void multiply(const int32_t* n, float* const* p, float beta) {
    multiply(n, reinterpret_cast<const Element*>(p[0]), reinterpret_cast<const Element*>(p[1]), beta, p[2]);
}

// `multiply` of equal matrices: further sizes are (count, elements from an a to the next, from a b, from a c).
template <class Element>
void multiply_batch(const int32_t* n, float* const* p, float beta) {
    for (int64_t i = 0; i < n[8]; ++i)
        multiply(n, reinterpret_cast<const Element*>(p[0]) + i * n[9], reinterpret_cast<const Element*>(p[1]) + i * n[10],
                 beta, p[2] + i * n[11]);
}

}  // namespace
