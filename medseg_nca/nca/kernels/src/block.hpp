// The rule on a block of cells that fire; everything stays in the cache.
#pragma once

#include "fire.hpp"
#include "tiles.hpp"

namespace {

// Fill ``rows`` with [x | features | 1] of the n cells at ``bases``.
template <class S, class T>
void perceive(const S* state, const int64_t* bases, int64_t n, const Grid& grid, const Rule<T>& rule,
              Scratch<T>& s) {
    const int64_t channels = grid.channels, row = rule.row, taps = grid.taps;
    T* rows = s.rows;
    const int64_t one = channels + rule.features;
    for (int64_t i = 0; i < n; ++i) {
        const S* own = state + bases[i];
        for (int64_t c = 0; c < channels; c += LANES<T>) store<T>(load(own + c), rows + i * row + c);
        rows[i * row + one] = 1;
    }
    if (rule.convolution) {
        const int64_t size = taps * channels;
        const int64_t* offsets = grid.offsets;
        T* patch = s.patch;
        for (int64_t i = 0; i < n; ++i) {
            const S* own = state + bases[i];
            for (int64_t t = 0; t < taps; ++t) {
                const S* from = own + offsets[t];
                T* to = patch + i * size + t * channels;
                for (int64_t c = 0; c < channels; c += LANES<T>) store<T>(load(from + c), to + c);
            }
        }
        product<Into::SET>(patch, size, 1, rule.filters, rule.features, rows + channels, row, n,
                           rule.features, size);
        return;
    }
    const int64_t whole = channels - channels % (2 * LANES<T>);
    for (int64_t f = 0; f < rule.filter_count; ++f) {
        const T* filters = rule.filters + f * taps * channels;
        T* out = rows + (f + 1) * channels;
        for (int64_t c = 0; c < whole; c += 2 * LANES<T>)
            for (int64_t i = 0; i < n; i += WIDE_STENCIL_ROWS)
                stencil<WIDE_STENCIL_ROWS, 2>(state + c, bases + i, grid.offsets, taps, filters + c,
                                              channels, out + i * row + c, row);
        if (whole < channels)
            for (int64_t i = 0; i < n; i += NARROW_STENCIL_ROWS)
                stencil<NARROW_STENCIL_ROWS, 1>(state + whole, bases + i, grid.offsets, taps,
                                                filters + whole, channels, out + i * row + whole, row);
    }
}

// Divide each row of ``hidden`` by its root mean square; ``inverse`` keeps what it was multiplied by.
template <class T>
void normalise(int64_t n, const Rule<T>& rule, Scratch<T>& s) {
    const int64_t width = rule.hidden;
    const T units = T(rule.units);
    T *hidden = s.hidden, *inverse = s.inverse;
    for (int64_t i = 0; i < n; ++i) {
        T* row = hidden + i * width;
        Vector<T> squares = {};
        for (int64_t h = 0; h < width; h += LANES<T>) squares += load(row + h) * load(row + h);
        const T factor = 1 / sqrt(total<T>(squares) / units + T(EPS));
        for (int64_t h = 0; h < width; h += LANES<T>) store<T>(load(row + h) * factor, row + h);
        inverse[i] = factor;
    }
}

// Fill ``hidden`` with the values before the norm's scale and shift and the activation. Of a batch norm
// ``mean`` holds the means and ``squares`` one over the deviations.
template <class T>
void hidden_values(int64_t n, const Grid& grid, const Rule<T>& rule, Scratch<T>& s) {
    const int64_t units = rule.hidden;
    product<Into::SET>(s.rows, rule.row, 1, rule.w0, units, s.hidden, units, n, units,
                       grid.channels + rule.features + 1);
    if (rule.norm) normalise(n, rule, s);
    if (!rule.batch) return;
    T *hidden = s.hidden, *mean = s.mean, *squares = s.squares;
    for (int64_t i = 0; i < n; ++i)
        for (int64_t h = 0; h < units; h += LANES<T>) {
            T* place = hidden + i * units + h;
            store<T>((load(place) - load(mean + h)) * load(squares + h), place);
        }
}

template <class T>
T smooth(T x, int64_t activation) {
    switch (activation) {
        case LEAKY_RELU:
            return x < 0 ? x * T(LEAKY_SLOPE) : x;
        case GELU:
            return x * T(0.5) * (1 + erf(x * T(SQRT_HALF)));
        default:
            return x / (1 + exp(-x));
    }
}

// active = act(scale * hidden + shift)
template <class T>
void apply_activation(const T* hidden, T* active, int64_t n, const Rule<T>& rule) {
    const int64_t width = rule.hidden, activation = rule.activation;
    const T *scale = rule.scale, *shift = rule.shift;
    for (int64_t i = 0; i < n; ++i)
        for (int64_t h = 0; h < width; h += LANES<T>) {
            const int64_t at = i * width + h;
            Vector<T> value = load(hidden + at) * load(scale + h) + load(shift + h);
            if (activation == RELU)
                value = positive<T>(value);
            else
                for (int64_t lane = 0; lane < LANES<T>; ++lane)
                    value[lane] = smooth<T>(value[lane], activation);
            store<T>(value, active + at);
        }
}

// Fill ``hidden`` with the activations of the perceived rows.
template <class T>
void activate(int64_t n, const Grid& grid, const Rule<T>& rule, Scratch<T>& s) {
    if (rule.activation == RELU && !rule.norm) {
        product<Into::RELU>(s.rows, rule.row, 1, rule.w0, rule.hidden, s.hidden, rule.hidden, n,
                            rule.hidden, grid.channels + rule.features + 1);
        return;
    }
    hidden_values(n, grid, rule, s);
    apply_activation(s.hidden, s.hidden, n, rule);
}

// Add the change to the n cells at ``bases``; ``after`` holds their old state.
template <class S, class T>
void update_block(const S* before, S* after, const int64_t* bases, int64_t n, const Grid& grid,
                  const Rule<T>& rule, Scratch<T>& s) {
    const int64_t channels = grid.channels;
    perceive(before, bases, n, grid, rule, s);
    activate(n, grid, rule, s);
    product<Into::SET>(s.hidden, rule.hidden, 1, rule.w1, channels, s.change, channels, n, channels,
                       rule.hidden);
    const T* change = s.change;
    for (int64_t c = 0; c < channels; c += LANES<T>) {
        Vector<T> health = load(s.health + c);
        for (int64_t i = 0; i < n; ++i) {
            S* target = after + bases[i] + c;
            const Vector<T> sum = load(change + i * channels + c) + load(target);
            store(sum, target);
            health += sum * T(0);
        }
        store<T>(health, s.health + c);
    }
}

}  // namespace
