// Small tiles whose accumulators stay in registers: matrix products, stencils and their adjoints.
// ``x_row`` is the distance of two rows, ``x_col`` that of two columns.
#pragma once

#include "model.hpp"

namespace {

enum class Into { SET, ADD, RELU };

// c = a b, c += a b or c = max(a b, 0) for ROWS rows and VECTORS vectors of c.
template <int64_t ROWS, int64_t VECTORS, Into INTO, class T>
inline void dense(const T* a, int64_t a_row, int64_t a_col, const T* b, int64_t b_row, T* c,
                  int64_t c_row, int64_t depth) {
    Vector<T> sums[ROWS][VECTORS];
    MEDSEG_UNROLL
    for (int64_t i = 0; i < ROWS; ++i) {
        MEDSEG_UNROLL
        for (int64_t v = 0; v < VECTORS; ++v)
            sums[i][v] = INTO == Into::ADD ? load(c + i * c_row + v * LANES<T>) : Vector<T>{};
    }
    for (int64_t k = 0; k < depth; ++k) {
        Vector<T> right[VECTORS];
        MEDSEG_UNROLL
        for (int64_t v = 0; v < VECTORS; ++v) right[v] = load(b + v * LANES<T>);
        MEDSEG_UNROLL
        for (int64_t i = 0; i < ROWS; ++i) {
            const T left = a[i * a_row];
            MEDSEG_UNROLL
            for (int64_t v = 0; v < VECTORS; ++v) sums[i][v] += right[v] * left;
        }
        a += a_col;
        b += b_row;
    }
    MEDSEG_UNROLL
    for (int64_t i = 0; i < ROWS; ++i) {
        MEDSEG_UNROLL
        for (int64_t v = 0; v < VECTORS; ++v)
            store<T>(INTO == Into::RELU ? positive<T>(sums[i][v]) : sums[i][v],
                     c + i * c_row + v * LANES<T>);
    }
}

// A matrix product made of tiles. Rows are rounded up to whole tiles, columns are whole vectors.
template <Into INTO, class T>
void product(const T* a, int64_t a_row, int64_t a_col, const T* b, int64_t b_row, T* c,
             int64_t c_row, int64_t rows, int64_t columns, int64_t depth) {
    const int64_t whole = columns - columns % (2 * LANES<T>);
    for (int64_t j = 0; j < whole; j += 2 * LANES<T>)
        for (int64_t i = 0; i < rows; i += DENSE_ROWS)
            dense<DENSE_ROWS, 2, INTO>(a + i * a_row, a_row, a_col, b + j, b_row, c + i * c_row + j,
                                       c_row, depth);
    if (whole < columns)
        for (int64_t i = 0; i < rows; i += 2 * DENSE_ROWS)
            dense<2 * DENSE_ROWS, 1, INTO>(a + i * a_row, a_row, a_col, b + whole, b_row,
                                           c + i * c_row + whole, c_row, depth);
}

// out[i, :] = sum over taps t of state[bases[i] + offsets[t], :] * filters[t, :]
template <int64_t ROWS, int64_t VECTORS, class S, class T>
inline void stencil(const S* state, const int64_t* bases, const int64_t* offsets, int64_t taps,
                    const T* filters, int64_t f_row, T* out, int64_t o_row) {
    Vector<T> sums[ROWS][VECTORS];
    const S* starts[ROWS];
    MEDSEG_UNROLL
    for (int64_t i = 0; i < ROWS; ++i) {
        starts[i] = state + bases[i];
        MEDSEG_UNROLL
        for (int64_t v = 0; v < VECTORS; ++v) sums[i][v] = Vector<T>{};
    }
    for (int64_t t = 0; t < taps; ++t) {
        Vector<T> weights[VECTORS];
        MEDSEG_UNROLL
        for (int64_t v = 0; v < VECTORS; ++v) weights[v] = load(filters + t * f_row + v * LANES<T>);
        MEDSEG_UNROLL
        for (int64_t i = 0; i < ROWS; ++i) {
            MEDSEG_UNROLL
            for (int64_t v = 0; v < VECTORS; ++v)
                sums[i][v] += load(starts[i] + offsets[t] + v * LANES<T>) * weights[v];
        }
    }
    MEDSEG_UNROLL
    for (int64_t i = 0; i < ROWS; ++i) {
        MEDSEG_UNROLL
        for (int64_t v = 0; v < VECTORS; ++v) store<T>(sums[i][v], out + i * o_row + v * LANES<T>);
    }
}

// The adjoint of that: seen[i, :] goes back to the neighbours of cell i, and to the filters.
template <int64_t ROWS, int64_t VECTORS, class T>
inline void scatter(const T* state, T* grad, const int64_t* bases, const int64_t* offsets,
                    int64_t taps, const T* filters, T* grads, int64_t f_row, const T* seen,
                    int64_t s_row) {
    Vector<T> values[ROWS][VECTORS];
    int64_t starts[ROWS];
    MEDSEG_UNROLL
    for (int64_t i = 0; i < ROWS; ++i) {
        starts[i] = bases[i];
        MEDSEG_UNROLL
        for (int64_t v = 0; v < VECTORS; ++v) values[i][v] = load(seen + i * s_row + v * LANES<T>);
    }
    for (int64_t t = 0; t < taps; ++t) {
        const int64_t offset = offsets[t];
        Vector<T> weights[VECTORS], sums[VECTORS];
        MEDSEG_UNROLL
        for (int64_t v = 0; v < VECTORS; ++v) {
            weights[v] = load(filters + t * f_row + v * LANES<T>);
            sums[v] = load(grads + t * f_row + v * LANES<T>);
        }
        MEDSEG_UNROLL
        for (int64_t i = 0; i < ROWS; ++i) {
            const int64_t place = starts[i] + offset;
            MEDSEG_UNROLL
            for (int64_t v = 0; v < VECTORS; ++v) {
                T* target = grad + place + v * LANES<T>;
                sums[v] += load(state + place + v * LANES<T>) * values[i][v];
                store<T>(load(target) + weights[v] * values[i][v], target);
            }
        }
        MEDSEG_UNROLL
        for (int64_t v = 0; v < VECTORS; ++v) store<T>(sums[v], grads + t * f_row + v * LANES<T>);
    }
}

}  // namespace
