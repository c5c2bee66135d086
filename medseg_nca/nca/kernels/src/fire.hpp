// Which cells fire: the hash of medseg_nca/nca/fire.py, a vector of cells at a time.
#pragma once

#include "model.hpp"

namespace {

// Multipliers of the "lowbias32" integer hash (C. Wellons, "Prospecting for hash functions", 2018).
constexpr uint32_t MUL_A = 0x7FEB352D, MUL_B = 0x846CA68B;

// Of a word or a vector of words: a number that decides with the level whether the cell fires.
template <class Word>
inline Word number(Word position, uint32_t key) {
    Word x = position ^ key;
    x = (x ^ (x >> 16)) * MUL_A;
    x = (x ^ (x >> 15)) * MUL_B;
    return (x ^ (x >> 16)) ^ (uint32_t(1) << 31);
}

// Append where the cells of one row of the grid that fire lie; returns the new count.
inline int64_t collect(int64_t* bases, int64_t n, int64_t base, int64_t cell, uint32_t key,
                       const Grid& grid, const Firing& firing) {
    const int64_t step = grid.channels, count = grid.n2;
    const uint32_t level = uint32_t(firing.level);
    if (firing.awake) {
        for (int64_t z = 0; z < count; ++z) {
            bases[n] = base + z * step;
            n += firing.awake[cell + z] &&
                 (firing.every || number(firing.positions[cell + z], key) < level);
        }
        return n;
    }
    if (firing.every) {
        for (int64_t z = 0; z < count; ++z) bases[n + z] = base + z * step;
        return n + count;
    }
    const uint32_t* positions = firing.positions + cell;
    int64_t z = 0;
    for (; z + LANES<uint32_t> <= count; z += LANES<uint32_t>) {
        const Words numbers = number(load(positions + z), key);
        MEDSEG_UNROLL
        for (int64_t lane = 0; lane < LANES<uint32_t>; ++lane) {
            bases[n] = base + (z + lane) * step;
            n += numbers[lane] < level;
        }
    }
    for (; z < count; ++z) {
        bases[n] = base + z * step;
        n += number(positions[z], key) < level;
    }
    return n;
}

// Walk the cells of a slab that fire, BLOCK of them at a time: ``row(base, cell)`` is called for each row
// of the grid and says whether any of its cells may fire, ``block(n)`` for each block.
template <class Row, class Block>
inline void walk(int64_t job, uint32_t key, const Grid& grid, const Firing& firing, int64_t* bases,
                 Row row, Block block) {
    const int64_t* slab = grid.jobs + 4 * job;
    int64_t n = 0;
    for (int64_t a = slab[2]; a < slab[3]; ++a)
        for (int64_t b = 0; b < grid.n1; ++b) {
            const int64_t base = slab[0] + a * grid.stride0 + b * grid.stride1;
            const int64_t cell = slab[1] + (a * grid.n1 + b) * grid.n2;
            // A row in which no cell may ever fire is the same in all states.
            if (firing.rows && !firing.rows[cell / grid.n2]) continue;
            row(base);
            n = collect(bases, n, base, cell, key, grid, firing);
            int64_t done = 0;
            for (; n - done >= BLOCK; done += BLOCK) block(bases + done, BLOCK);
            for (int64_t i = 0; i < n - done; ++i) bases[i] = bases[done + i];
            n -= done;
        }
    if (!n) return;
    // The rest of the block names the last cell, so that whole tiles may be read.
    for (int64_t i = n; i < BLOCK; ++i) bases[i] = bases[n - 1];
    block(bases, n);
}

}  // namespace
