// The backward pass of one step: recompute what the cells that fired did, and take it back.
//
// With x' = x + M W1 act(norm(W0 [x, K x, 1])) the gradient of x is that of x' plus what comes back
// through the rule of the cells that fired. Slabs scatter into their neighbours, so the even ones run
// first, then the odd ones.
#pragma once

#include "moments.hpp"
#include "team.hpp"

namespace {

// Gradients of the packed weights: a row for each job, added up at the end.
template <class T>
struct Sums {
    T *filters, *w0, *w1, *scale, *shift;
    int64_t filters_row, w0_row, w1_row, scale_row, shift_row;

    Sums of(int64_t job) const {
        Sums own = *this;
        own.filters += job * filters_row;
        own.w0 += job * w0_row;
        own.w1 += job * w1_row;
        own.scale += job * scale_row;
        own.shift += job * shift_row;
        return own;
    }
};

template <class T>
T slope(T x, int64_t activation) {
    switch (activation) {
        case LEAKY_RELU:
            return x <= 0 ? T(LEAKY_SLOPE) : T(1);
        case GELU: {
            const T density = exp(T(-0.5) * x * x) / sqrt(T(2 * PI));
            return T(0.5) * (1 + erf(x * T(SQRT_HALF))) + x * density;
        }
        default: {
            const T sigmoid = 1 / (1 + exp(-x));
            return sigmoid * (1 + x * (1 - sigmoid));
        }
    }
}

// Turn the gradient of the activations into that of scale * hidden + shift, in place.
template <class T>
void activation_back(const T* hidden, T* grad, int64_t n, const Rule<T>& rule) {
    const Vector<T> zero = {};
    const int64_t width = rule.hidden, activation = rule.activation;
    const T *scale = rule.scale, *shift = rule.shift;
    for (int64_t i = 0; i < n; ++i)
        for (int64_t h = 0; h < width; h += LANES<T>) {
            const int64_t at = i * width + h;
            const Vector<T> x = load(hidden + at) * load(scale + h) + load(shift + h);
            Vector<T> value = load(grad + at);
            if (activation == RELU)
                value = x <= zero ? zero : value;
            else
                for (int64_t lane = 0; lane < LANES<T>; ++lane)
                    value[lane] *= slope<T>(x[lane], activation);
            store<T>(value, grad + at);
        }
}

// From the gradient of scale * hidden to that of the values before the RMS norm, in place.
template <class T>
void norm_back(const T* hidden, T* grad, const T* inverse, T* sums, int64_t n, const Rule<T>& rule) {
    const int64_t width = rule.hidden;
    const T* scale = rule.scale;
    const T units = T(rule.units);
    for (int64_t i = 0; i < n; ++i) {
        const T* value = hidden + i * width;
        T* own = grad + i * width;
        Vector<T> inner = {};
        for (int64_t h = 0; h < width; h += LANES<T>)
            inner += load(own + h) * load(scale + h) * load(value + h);
        const T mean = total<T>(inner) / units, factor = inverse[i];
        for (int64_t h = 0; h < width; h += LANES<T>) {
            const Vector<T> g = load(own + h), x = load(value + h);
            store<T>(load(sums + h) + g * x, sums + h);
            store<T>((g * load(scale + h) - x * mean) * factor, own + h);
        }
    }
}

// The same for a batch norm; ``moments`` holds the means, over all cells that fired, of the gradient and
// of the gradient times the standardised value.
template <class T>
void batch_back(const T* hidden, T* grad, int64_t n, const Rule<T>& rule, const Scratch<T>& s) {
    const int64_t units = rule.hidden;
    const double* means = s.moments + 1;
    for (int64_t i = 0; i < n; ++i)
        for (int64_t h = 0; h < units; ++h) {
            const int64_t at = i * units + h;
            const T inner = T(grad[at] - means[h] - hidden[at] * means[units + h]);
            grad[at] = s.squares[h] * rule.scale[h] * inner;
        }
}

template <class T>
void gather(const T* grad, const int64_t* bases, int64_t n, int64_t channels, T* out) {
    for (int64_t i = 0; i < n; ++i) {
        const T* own = grad + bases[i];
        for (int64_t c = 0; c < channels; c += LANES<T>) store<T>(load(own + c), out + i * channels + c);
    }
}

// Fill ``hidden`` again, and ``active`` with the gradient of scale * hidden + shift.
template <class T>
void activation_grad(const T* state, const T* grad_after, const int64_t* bases, int64_t n,
                     const Grid& grid, const Rule<T>& rule, Scratch<T>& s, T* w1_sum) {
    const int64_t channels = grid.channels, units = rule.hidden;
    perceive(state, bases, n, grid, rule, s);
    hidden_values(n, grid, rule, s);
    gather(grad_after, bases, n, channels, s.change);
    if (w1_sum) {
        apply_activation(s.hidden, s.active, n, rule);
        product<Into::ADD>(s.active, 1, units, s.change, channels, w1_sum, channels, units, channels,
                           n);
    }
    product<Into::SET>(s.change, channels, 1, rule.w1_back, units, s.active, units, n, units, channels);
    activation_back(s.hidden, s.active, n, rule);
}

// Add the gradients of a batch norm's shift and scale to ``sums``, (1 + 2 * hidden,).
template <class T>
void sum_block(const T* state, const T* grad_after, const int64_t* bases, int64_t n, const Grid& grid,
               const Rule<T>& rule, Scratch<T>& s, double* sums) {
    const int64_t units = rule.hidden;
    activation_grad<T>(state, grad_after, bases, n, grid, rule, s, nullptr);
    for (int64_t i = 0; i < n; ++i)
        for (int64_t h = 0; h < units; ++h) {
            const T grad = s.active[i * units + h];
            sums[1 + h] += grad;
            sums[1 + units + h] += double(grad) * s.hidden[i * units + h];
        }
}

// Give the gradient of the perceived rows back to the cells, their neighbours and the filters.
template <class T>
void scatter_block(const T* state, T* grad, const int64_t* bases, int64_t n, const Grid& grid,
                   const Rule<T>& rule, Scratch<T>& s, T* sums) {
    const int64_t channels = grid.channels, row = rule.row, taps = grid.taps;
    T* rows = s.rows_grad;
    for (int64_t i = 0; i < n; ++i) {
        T* own = grad + bases[i];
        for (int64_t c = 0; c < channels; c += LANES<T>)
            store<T>(load(own + c) + load(rows + i * row + c), own + c);
    }
    if (rule.convolution) {
        const int64_t size = taps * channels;
        product<Into::SET>(rows + channels, row, 1, rule.filters_back, size, s.patch_grad, size, n,
                           size, rule.features);
        product<Into::ADD>(s.patch, 1, size, rows + channels, row, sums, rule.features, size,
                           rule.features, n);
        const int64_t* offsets = grid.offsets;
        const T* patch = s.patch_grad;
        for (int64_t i = 0; i < n; ++i) {
            T* own = grad + bases[i];
            for (int64_t t = 0; t < taps; ++t) {
                T* to = own + offsets[t];
                const T* from = patch + i * size + t * channels;
                for (int64_t c = 0; c < channels; c += LANES<T>)
                    store<T>(load(to + c) + load(from + c), to + c);
            }
        }
        return;
    }
    memset(rows + n * row, 0, SCATTER_ROWS * row * sizeof(T));
    const int64_t whole = channels - channels % (2 * LANES<T>);
    for (int64_t f = 0; f < rule.filter_count; ++f) {
        const int64_t first = f * taps * channels;
        const T* seen = rows + (f + 1) * channels;
        for (int64_t i = 0; i < n; i += SCATTER_ROWS) {
            for (int64_t c = 0; c < whole; c += 2 * LANES<T>)
                scatter<SCATTER_ROWS, 2>(state + c, grad + c, bases + i, grid.offsets, taps,
                                         rule.filters + first + c, sums + first + c, channels,
                                         seen + i * row + c, row);
            if (whole < channels)
                scatter<SCATTER_ROWS, 1>(state + whole, grad + whole, bases + i, grid.offsets, taps,
                                         rule.filters + first + whole, sums + first + whole, channels,
                                         seen + i * row + whole, row);
        }
    }
}

template <class T>
void back_block(const T* state, const T* grad_after, T* grad, const int64_t* bases, int64_t n,
                const Grid& grid, const Rule<T>& rule, Scratch<T>& s, const Sums<T>& sums) {
    const int64_t units = rule.hidden, inputs = grid.channels + rule.features;
    activation_grad(state, grad_after, bases, n, grid, rule, s, sums.w1);
    if (rule.norm) norm_back(s.hidden, s.active, s.inverse, sums.scale, n, rule);
    if (rule.batch) batch_back(s.hidden, s.active, n, rule, s);
    product<Into::ADD>(s.rows, 1, rule.row, s.active, units, sums.w0, units, inputs + 1, units, n);
    product<Into::SET>(s.active, units, 1, rule.w0_back, inputs, s.rows_grad, rule.row, n, inputs,
                       units);
    scatter_block(state, grad, bases, n, grid, rule, s, sums.filters);
}

// Add the gradient of halo cells to the cells that they copy, and start ``grad`` from that.
template <class T>
void fold_slab(T* grad_after, T* grad, int64_t job, const Grid& grid) {
    const int64_t length = grid.n2 * grid.channels;
    for (int64_t i = grid.halo_first[job]; i < grid.halo_first[job + 1]; ++i)
        for (int64_t c = 0; c < grid.channels; c += LANES<T>) {
            T* cell = grad_after + grid.halo_from[i] + c;
            store<T>(load(cell) + load(grad_after + grid.halo_to[i] + c), cell);
            store<T>(Vector<T>{}, grad + grid.halo_to[i] + c);
        }
    const int64_t* slab = grid.jobs + 4 * job;
    for (int64_t a = slab[2]; a < slab[3]; ++a)
        for (int64_t b = 0; b < grid.n1; ++b) {
            const int64_t base = slab[0] + a * grid.stride0 + b * grid.stride1;
            memcpy(grad + base, grad_after + base, length * sizeof(T));
        }
}

// Of a batch norm: let ``hidden_values`` standardise as the step did, and find the means that
// ``batch_back`` needs.
template <class T>
void sum_slabs(const T* state, const T* grad_after, uint32_t key, Meeting& meeting, const Grid& grid,
               const Rule<T>& rule, const Firing& firing, Scratch<T>& s, const Sums<T>& sums,
               const double* known, double* moments) {
    const int64_t units = rule.hidden, row = moment_count(units);
    const double count = fmax(known[0], 1.0);
    for (int64_t h = 0; h < units; ++h) {
        s.mean[h] = T(known[1 + h]);
        s.squares[h] = T(1.0 / sqrt(known[1 + units + h] / count + EPS));
    }
    share(meeting, 0, grid.job_count, [&](int64_t job) {
        double* own = moments + job * row;
        memset(own, 0, row * sizeof(double));
        walk(
            job, key, grid, firing, s.bases, [](int64_t) {},
            [&](const int64_t* bases, int64_t n) {
                sum_block(state, grad_after, bases, n, grid, rule, s, own);
            });
        const Sums<T> part = sums.of(job);
        for (int64_t h = 0; h < units; ++h) {
            part.shift[h] += T(own[1 + h]);
            part.scale[h] += T(own[1 + units + h]);
        }
    });
    meeting.end();
    memset(s.moments, 0, row * sizeof(double));
    for (int64_t job = 0; job < grid.job_count; ++job)
        for (int64_t i = 0; i < row; ++i) s.moments[i] += moments[job * row + i] / count;
}

// Take a gradient back through all steps, as one thread of a team. ``states`` are the padded states before
// each step, ``grads`` two padded gradients: the first is that of the last state, and at the end that of
// the first state is number (steps + 1) % 2. The ``middle`` first slabs are the even ones.
template <class T>
void back_slabs(const T* states, T* grads, int64_t size, int64_t steps, int64_t middle,
                Meeting& meeting, const Grid& grid, const Rule<T>& rule, const Firing& firing,
                Scratch<T>& s, const Sums<T>& sums, const double* history, double* moments) {
    const int64_t jobs = grid.job_count, row = moment_count(rule.hidden);
    for (int64_t back = 0; back <= steps; ++back) {
        const int64_t step = steps - 1 - back;
        T* grad_after = grads + back % 2 * size;
        T* grad = grads + (back + 1) % 2 * size;
        share(meeting, 0, jobs, [&](int64_t job) { fold_slab(grad_after, grad, job, grid); });
        meeting.end();
        if (step < 0) return;
        const T* state = states + step * size;
        const uint32_t key = firing.every ? 0 : firing.keys[step];
        if (rule.batch)
            sum_slabs(state, grad_after, key, meeting, grid, rule, firing, s, sums,
                      history + step * row, moments);
        for (int64_t part = 0; part < 2; ++part) {
            share(meeting, part ? middle : 0, part ? jobs : middle, [&](int64_t job) {
                const Sums<T> own = sums.of(job);
                walk(
                    job, key, grid, firing, s.bases, [](int64_t) {},
                    [&](const int64_t* bases, int64_t n) {
                        back_block(state, grad_after, grad, bases, n, grid, rule, s, own);
                    });
            });
            meeting.end();
        }
    }
}

}  // namespace
