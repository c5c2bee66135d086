// What the loops work on. The fields are those of medseg_nca/nca/kernels/library.py, in the same order;
// offsets and strides are in elements.
#pragma once

#include "vector.hpp"

namespace {

// 32 registers hold more accumulators than 16. Rows of a tile that is two vectors wide; two of them
// make a tile that is one vector wide.
#if MEDSEG_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int64_t DENSE_ROWS = 12, SCATTER_ROWS = 8;
#else
constexpr int64_t DENSE_ROWS = 6, SCATTER_ROWS = 4;
#endif
// Rows of a stencil, two vectors wide and one: no more than there are registers for their addresses.
constexpr int64_t WIDE_STENCIL_ROWS = 6, NARROW_STENCIL_ROWS = 8;
// Cells that are computed at a time: a multiple of all of the above and of their doubles.
constexpr int64_t BLOCK = 96;
// The last rows of a tile may reach past the end of a matrix by so many rows.
constexpr int64_t SLACK = 2 * DENSE_ROWS;

constexpr double EPS = 1e-5;
constexpr double LEAKY_SLOPE = 0.01;  // of torch's leaky_relu
// Not every math.h has them.
constexpr double PI = 3.14159265358979323846, SQRT_HALF = 0.70710678118654752440;
enum Activation : int64_t { RELU = 0, LEAKY_RELU = 1, GELU = 2, SILU = 3 };

struct Grid {
    int64_t channels, cells, n1, n2, stride0, stride1;
    int64_t job_count, taps;
    const int64_t* jobs;  // rows of (first element, positions, n0 begin, n0 end)
    const int64_t* offsets;
    const int64_t* halo_to;
    const int64_t* halo_from;
    const int64_t* halo_first;
};

struct Firing {
    int64_t every;
    int64_t level;
    const uint32_t* positions;
    const uint32_t* keys;
    const uint8_t* awake;  // null if all cells may fire
    const uint8_t* rows;
};

template <class T>
struct Rule {
    const T* filters;
    const T* w0;
    const T* w1;
    const T* scale;
    const T* shift;
    const T* filters_back;
    const T* w0_back;
    const T* w1_back;
    int64_t convolution, filter_count, features, hidden, units, row, norm, batch, activation;
};

// One thread's memory for the cells of a block.
template <class T>
struct Scratch {
    int64_t* bases;  // where the cells of the block begin
    T* rows;         // what they perceive: [x | features | 1]
    T* patch;        // neighbourhoods, for a full convolution
    T* hidden;
    T* active;
    T* change;
    T* inverse;  // what the RMS norm multiplied by
    T* health;   // 0 while every number that was written is finite
    T* rows_grad;
    T* patch_grad;
    // Of a batch norm: means, squares (backward: one over the deviation), and the first matrix and the
    // scale and shift of a step whose norm is folded into it.
    T* mean;
    T* squares;
    T* folded;
    T* ones;
    T* zeros;
    double* moments;
};

// Hands out aligned parts of one piece of memory; from a null pointer on it only measures.
struct Parts {
    char* memory;
    int64_t used;

    template <class T>
    T* take(int64_t count) {
        T* part = memory ? reinterpret_cast<T*>(memory + used) : nullptr;
        used += (count * int64_t(sizeof(T)) + 63) / 64 * 64;
        return part;
    }
};

inline int64_t moment_count(int64_t hidden) { return 1 + 2 * hidden; }

// Lay out the scratch memory; returns how many bytes it takes.
template <class T>
int64_t lay_out(Scratch<T>& s, char* memory, const Grid& grid, const Rule<T>& rule, bool backward) {
    Parts parts = {memory, 0};
    const int64_t width = BLOCK + SLACK, later = backward ? width : 0;
    const int64_t patch = rule.convolution ? grid.taps * grid.channels : 0;
    const int64_t measured = rule.batch ? rule.hidden : 0;
    // Vectors of positions are written whole, also the last one of a row of the grid.
    s.bases = parts.take<int64_t>(BLOCK + grid.n2 + 64);
    s.rows = parts.take<T>(width * rule.row);
    s.patch = parts.take<T>(width * patch);
    s.hidden = parts.take<T>(width * rule.hidden);
    s.active = parts.take<T>(width * rule.hidden);
    s.change = parts.take<T>(width * grid.channels);
    s.inverse = parts.take<T>(width);
    s.health = parts.take<T>(grid.channels);
    s.rows_grad = parts.take<T>(later * rule.row);
    s.patch_grad = parts.take<T>(later * patch);
    s.mean = parts.take<T>(measured);
    s.squares = parts.take<T>(measured);
    s.folded = parts.take<T>(measured * rule.row);
    s.ones = parts.take<T>(measured);
    s.zeros = parts.take<T>(measured);
    s.moments = parts.take<double>(moment_count(measured));
    if (memory)
        for (int64_t h = 0; h < measured; ++h) s.ones[h] = 1;
    return parts.used;
}

}  // namespace
