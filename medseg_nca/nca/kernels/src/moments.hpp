// Batch norm: mean and variance of each hidden unit over all cells that fire, before a step.
//
// A step with batch norm goes over the grid twice. The first time only measures; then the norm is put
// into the first matrix, and the second time is a step without a norm. Means and squared deviations of
// blocks are merged in double (Chan, Golub and LeVeque 1979), job after job in a fixed order, so that the
// result does not depend on the number of threads. Moments are rows of how many, means, and sums of
// squared deviations.
#pragma once

#include "block.hpp"

namespace {

// Add n more values, of which mean and squared deviations are given.
template <class T>
void merge(double* moments, double n, const T* mean, const T* squares, int64_t units) {
    const double before = moments[0], after = before + n;
    moments[0] = after;
    for (int64_t h = 0; h < units; ++h) {
        const double off = double(mean[h]) - moments[1 + h];
        moments[1 + h] += off * n / after;
        moments[1 + units + h] += double(squares[h]) + off * off * before * n / after;
    }
}

// Add the hidden values of the n cells at ``bases`` to the moments of a job.
template <class S, class T>
void measure_block(const S* state, const int64_t* bases, int64_t n, const Grid& grid,
                   const Rule<T>& rule, Scratch<T>& s, double* moments) {
    const int64_t units = rule.hidden;
    perceive(state, bases, n, grid, rule, s);
    product<Into::SET>(s.rows, rule.row, 1, rule.w0, units, s.hidden, units, n, units,
                       grid.channels + rule.features + 1);
    for (int64_t h = 0; h < units; h += LANES<T>) {
        Vector<T> mean = {}, squares = {};
        for (int64_t i = 0; i < n; ++i) mean += load(s.hidden + i * units + h);
        mean /= T(n);
        for (int64_t i = 0; i < n; ++i) {
            const Vector<T> off = load(s.hidden + i * units + h) - mean;
            squares += off * off;
        }
        store<T>(mean, s.mean + h);
        store<T>(squares, s.squares + h);
    }
    merge(moments, double(n), s.mean, s.squares, units);
}

// Merge the moments of all jobs, a row each, in their order.
inline void total_moments(const double* moments, int64_t jobs, double* sum, int64_t units) {
    const int64_t count = moment_count(units);
    memset(sum, 0, count * sizeof(double));
    for (int64_t job = 0; job < jobs; ++job) {
        const double* one = moments + job * count;
        if (one[0] > 0) merge(sum, one[0], one + 1, one + 1 + units, units);
    }
}

// The rule of one step, without a norm: scale * (h - mean) / deviation + shift is in its first matrix.
template <class T>
Rule<T> folded(const Rule<T>& rule, const Grid& grid, Scratch<T>& s) {
    const int64_t units = rule.hidden, last = grid.channels + rule.features;
    const double* moments = s.moments;
    for (int64_t h = 0; h < units; ++h) {
        const double variance = moments[1 + units + h] / fmax(moments[0], 1.0);
        const double factor = rule.scale[h] / sqrt(variance + EPS);
        for (int64_t k = 0; k < last; ++k) s.folded[k * units + h] = T(rule.w0[k * units + h] * factor);
        const double bias = rule.w0[last * units + h] - moments[1 + h];
        s.folded[last * units + h] = T(bias * factor + rule.shift[h]);
    }
    Rule<T> now = rule;
    now.w0 = s.folded;
    now.scale = s.ones;
    now.shift = s.zeros;
    now.batch = 0;
    return now;
}

}  // namespace
