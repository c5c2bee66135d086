// A roll-out, slab by slab.
#pragma once

#include "moments.hpp"
#include "team.hpp"

namespace {

// Bring a slab from one state to the next.
template <class S, class T>
void step_slab(const S* before, S* after, int64_t job, uint32_t key, const Grid& grid,
               const Rule<T>& rule, const Firing& firing, Scratch<T>& s) {
    const int64_t length = grid.n2 * grid.channels;
    walk(
        job, key, grid, firing, s.bases,
        [&](int64_t base) { memcpy(after + base, before + base, length * sizeof(S)); },
        [&](const int64_t* bases, int64_t n) { update_block(before, after, bases, n, grid, rule, s); });
    for (int64_t i = grid.halo_first[job]; i < grid.halo_first[job + 1]; ++i)
        memcpy(after + grid.halo_to[i], after + grid.halo_from[i], grid.channels * sizeof(S));
}

// Whether a number that was written since the last time is NaN or infinite.
template <class T>
bool ill(const Grid& grid, Scratch<T>& s) {
    T sum = 0;
    for (int64_t c = 0; c < grid.channels; ++c) sum += s.health[c];
    memset(s.health, 0, grid.channels * sizeof(T));
    return sum != 0;
}

// Compute ``steps`` steps from number ``first`` on, as one thread of a team. ``states`` are ``count``
// padded states of ``size`` elements; step n reads number n and writes number n + 1, in a circle.
// ``moments`` has a row for each job, ``history`` gets one for each step; both are of a batch norm.
// Returns the first step at which this thread wrote a value that is not finite, or -1.
template <class S, class T>
int64_t roll_slabs(S* states, int64_t count, int64_t size, int64_t first, int64_t steps,
                   Meeting& meeting, const Grid& grid, const Rule<T>& rule, const Firing& firing,
                   Scratch<T>& s, double* moments, double* history) {
    const int64_t jobs = grid.job_count, row = moment_count(rule.hidden);
    int64_t bad = -1;
    for (int64_t step = first; step < first + steps; ++step) {
        const S* before = states + step % count * size;
        S* after = states + (step + 1) % count * size;
        const uint32_t key = firing.every ? 0 : firing.keys[step];
        Rule<T> now = rule;
        if (rule.batch) {
            share(meeting, 0, jobs, [&](int64_t job) {
                double* own = moments + job * row;
                memset(own, 0, row * sizeof(double));
                walk(
                    job, key, grid, firing, s.bases, [](int64_t) {},
                    [&](const int64_t* bases, int64_t n) {
                        measure_block(before, bases, n, grid, rule, s, own);
                    });
            });
            meeting.end();
            total_moments(moments, jobs, s.moments, rule.hidden);
            // Every thread writes the same.
            memcpy(history + step * row, s.moments, row * sizeof(double));
            now = folded(rule, grid, s);
        }
        share(meeting, 0, jobs, [&](int64_t job) {
            step_slab(before, after, job, key, grid, now, firing, s);
        });
        if (ill(grid, s) && bad < 0) bad = step;
        meeting.end();
    }
    return bad;
}

// Copy cells whose channels lie apart, ``(B, own, n0, n1, n2)``, into a padded state.
template <class S>
void load_slabs(const S* state, int64_t own, S* padded, Meeting& meeting, const Grid& grid) {
    share(meeting, 0, grid.job_count, [&](int64_t job) {
        const int64_t* slab = grid.jobs + 4 * job;
        const int64_t sample = slab[1] / grid.cells;
        for (int64_t a = slab[2]; a < slab[3]; ++a)
            for (int64_t b = 0; b < grid.n1; ++b) {
                S* to = padded + slab[0] + a * grid.stride0 + b * grid.stride1;
                const S* from = state + sample * own * grid.cells + (a * grid.n1 + b) * grid.n2;
                for (int64_t c = 0; c < own; ++c)
                    for (int64_t z = 0; z < grid.n2; ++z)
                        to[z * grid.channels + c] = from[c * grid.cells + z];
            }
    });
}

}  // namespace
