"""Vector instructions for compiled loops: small tiles whose accumulators stay in registers.

numba compiles Python loops with the LLVM that comes in its wheel, so no compiler is needed on the
user's machine, and for the very processor that it runs on. What it cannot express is a tile: a few
rows times a few vectors, accumulated over a long sum without touching memory. These functions emit
such tiles as LLVM vector code. The vectors' width is that of the processor; everything else
(element type, sizes, strides) is an argument.

Arrays are flat; ``x0`` is an offset in elements, ``x_row`` the distance of two rows. Nothing is
checked: the callers own their buffers.
"""

# numba types the intrinsics when it compiles a caller.
# mypy: allow-untyped-defs
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from medseg_nca.nca.fire import MUL_A, MUL_B
from medseg_nca.nca.kernels.vectors import (
    DENSE_ROWS,
    INDEX,
    SCATTER_ROWS,
    STENCIL_ROWS,
    WORD,
    Emitter,
    lanes,
    typing_and_code,
)
from medseg_nca.nca.update import EPS


def _dense(rows: int, vectors: int, accumulate: bool = False, relu: bool = False) -> Any:
    def emit(code: Emitter, a: Any, a0: Any, a_row: Any, a_col: Any, b: Any, b0: Any, b_row: Any,
             c: Any, c0: Any, c_row: Any, depth: Any) -> None:  # fmt: skip
        builder = code.builder
        sums = code.accumulators(rows, vectors)
        targets = [code.columns(row, vectors) for row in code.rows(c0, c_row, rows)]
        for row, target in zip(sums, targets, strict=True):
            for cell, index in zip(row, target, strict=True):
                builder.store(code.load(c, index) if accumulate else code.zero(), cell)
        starts = code.rows(a0, a_row, rows)
        with cgutils.for_range(builder, depth) as loop:
            column = builder.mul(loop.index, a_col)
            at = code.columns(builder.add(b0, builder.mul(loop.index, b_row)), vectors)
            right = [code.load(b, index) for index in at]
            for row, start in zip(sums, starts, strict=True):
                left = code.splat(a, builder.add(start, column))
                for cell, value in zip(row, right, strict=True):
                    builder.store(code.fma(left, value, builder.load(cell)), cell)
        for row, target in zip(sums, targets, strict=True):
            for cell, index in zip(row, target, strict=True):
                value = builder.load(cell)
                code.store(code.positive(value) if relu else value, c, index)

    typed, generate = typing_and_code((0, 4, 7), emit)

    @intrinsic
    def tile(typingctx, a, a0, a_row, a_col, b, b0, b_row, c, c0, c_row, depth):
        return typed((a, a0, a_row, a_col, b, b0, b_row, c, c0, c_row, depth)), generate

    return tile


def _stencil(rows: int, vectors: int) -> Any:
    def emit(code: Emitter, state: Any, bases: Any, first: Any, channel: Any, offsets: Any,
             taps: Any, filters: Any, f0: Any, f_row: Any, out: Any, o0: Any,
             o_row: Any) -> None:  # fmt: skip
        builder = code.builder
        sums = code.accumulators(rows, vectors)
        for row in sums:
            for cell in row:
                builder.store(code.zero(), cell)
        starts = [
            builder.add(builder.load(code.at(bases, index)), channel)
            for index in code.rows(first, ir.Constant(INDEX, 1), rows)
        ]
        with cgutils.for_range(builder, taps) as loop:
            offset = builder.load(code.at(offsets, loop.index))
            at = code.columns(builder.add(f0, builder.mul(loop.index, f_row)), vectors)
            weights = [code.load(filters, index) for index in at]
            for row, start in zip(sums, starts, strict=True):
                places = code.columns(builder.add(start, offset), vectors)
                for cell, place, weight in zip(row, places, weights, strict=True):
                    value = code.fma(code.load(state, place), weight, builder.load(cell))
                    builder.store(value, cell)
        for row, start in zip(sums, code.rows(o0, o_row, rows), strict=True):
            for cell, index in zip(row, code.columns(start, vectors), strict=True):
                code.store(builder.load(cell), out, index)

    typed, generate = typing_and_code((0, 1, 4, 6, 9), emit)

    @intrinsic
    def tile(
        typingctx, state, bases, first, channel, offsets, taps, filters, f0, f_row, out, o0, o_row
    ):
        args = (state, bases, first, channel, offsets, taps, filters, f0, f_row, out, o0, o_row)
        return typed(args), generate

    return tile


def _scatter(rows: int, vectors: int) -> Any:
    def emit(code: Emitter, state: Any, grad: Any, bases: Any, first: Any, channel: Any,
             offsets: Any, taps: Any, filters: Any, grads: Any, f0: Any, f_row: Any,
             seen: Any, s0: Any, s_row: Any) -> None:  # fmt: skip
        builder = code.builder
        one = ir.Constant(INDEX, 1)
        starts = [
            builder.add(builder.load(code.at(bases, index)), channel)
            for index in code.rows(first, one, rows)
        ]
        values = [
            [code.load(seen, index) for index in code.columns(start, vectors)]
            for start in code.rows(s0, s_row, rows)
        ]
        with cgutils.for_range(builder, taps) as loop:
            offset = builder.load(code.at(offsets, loop.index))
            at = code.columns(builder.add(f0, builder.mul(loop.index, f_row)), vectors)
            weights = [code.load(filters, index) for index in at]
            sums = [code.load(grads, index) for index in at]
            for start, value in zip(starts, values, strict=True):
                places = code.columns(builder.add(start, offset), vectors)
                for v, place in enumerate(places):
                    sums[v] = code.fma(code.load(state, place), value[v], sums[v])
                    moved = code.fma(weights[v], value[v], code.load(grad, place))
                    code.store(moved, grad, place)
            for index, total in zip(at, sums, strict=True):
                code.store(total, grads, index)

    typed, generate = typing_and_code((0, 1, 2, 5, 7, 8, 11), emit)

    @intrinsic
    def tile(
        typingctx,
        state,
        grad,
        bases,
        first,
        channel,
        offsets,
        taps,
        filters,
        grads,
        f0,
        f_row,
        seen,
        s0,
        s_row,
    ):
        args = (state, grad, bases, first, channel, offsets, taps, filters, grads, f0, f_row,
                seen, s0, s_row)  # fmt: skip
        return typed(args), generate

    return tile


def _normalise_relu() -> Any:
    def emit(code: Emitter, hidden: Any, start: Any, width: Any, units: Any, scale: Any) -> None:
        builder = code.builder
        vectors = builder.udiv(width, ir.Constant(INDEX, code.lanes))
        squares = cgutils.alloca_once(builder, code.vector)
        builder.store(code.zero(), squares)
        with cgutils.for_range(builder, vectors) as loop:
            at = builder.mul(loop.index, ir.Constant(INDEX, code.lanes))
            value = code.load(hidden, builder.add(start, at))
            builder.store(code.fma(value, value, builder.load(squares)), squares)
        mean = builder.fdiv(code.total(builder.load(squares)), builder.sitofp(units, code.scalar))
        size = code.function("llvm.sqrt", code.scalar, 1)
        root = builder.call(size, [builder.fadd(mean, ir.Constant(code.scalar, EPS))])
        factor = code.spread(builder.fdiv(ir.Constant(code.scalar, 1.0), root))
        with cgutils.for_range(builder, vectors) as loop:
            at = builder.mul(loop.index, ir.Constant(INDEX, code.lanes))
            place = builder.add(start, at)
            value = builder.fmul(code.load(hidden, place), factor)
            code.store(code.positive(builder.fmul(value, code.load(scale, at))), hidden, place)

    typed, generate = typing_and_code((0, 4), emit)

    @intrinsic
    def normalise(typingctx, hidden, start, width, units, scale):
        return typed((hidden, start, width, units, scale)), generate

    return normalise


def _copy_vector() -> Any:
    def emit(code: Emitter, a: Any, a0: Any, b: Any, b0: Any) -> None:
        code.store(code.load(a, a0), b, b0)

    typed, generate = typing_and_code((0, 2), emit)

    @intrinsic
    def copy(typingctx, a, a0, b, b0):
        return typed((a, a0, b, b0)), generate

    return copy


def _add_rows(rows: int) -> Any:
    def emit(code: Emitter, change: Any, c0: Any, c_row: Any, state: Any, bases: Any, first: Any,
             channel: Any, health: Any) -> None:  # fmt: skip
        builder = code.builder
        check = code.load(health, channel)
        places = code.rows(first, ir.Constant(INDEX, 1), rows)
        for place, start in zip(places, code.rows(c0, c_row, rows), strict=True):
            target = builder.add(builder.load(code.at(bases, place)), channel)
            total = builder.fadd(code.load(change, start), code.load(state, target))
            code.store(total, state, target)
            check = code.fma(total, code.zero(), check)
        code.store(check, health, channel)

    typed, generate = typing_and_code((0, 3, 4, 7), emit)

    @intrinsic
    def add(typingctx, change, c0, c_row, state, bases, first, channel, health):
        return typed((change, c0, c_row, state, bases, first, channel, health)), generate

    return add


@intrinsic
def draw(typingctx, positions, first, key, level, bases, n, base, step):
    """Append to ``bases[:n]`` where the cells that fire lie, for one vector of cells.

    ``positions`` are uint32, ``bases`` int64 with room for a whole vector; cell i of the vector
    lies at ``base + i * step``. See :meth:`medseg_nca.nca.fire.Fire.mask`. Returns the new ``n``.
    """
    count = lanes(4)
    vector = ir.VectorType(WORD, count)

    def splat(value: int) -> Any:
        return ir.Constant(vector, [value] * count)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Emitter(context, builder, types.float32)
        numbers = context.make_array(signature.args[0])(context, builder, args[0]).data
        places = context.make_array(signature.args[4])(context, builder, args[4]).data
        pointer = builder.bitcast(code.at(numbers, args[1]), vector.as_pointer())
        x = builder.xor(builder.load(pointer, align=4), code.repeat(args[2], vector))
        for shift, factor in ((16, MUL_A), (15, MUL_B)):
            x = builder.mul(builder.xor(x, builder.lshr(x, splat(shift))), splat(factor))
        x = builder.xor(builder.xor(x, builder.lshr(x, splat(16))), splat(1 << 31))
        fire = builder.icmp_unsigned("<", x, code.repeat(args[3], vector))
        bits = builder.zext(builder.bitcast(fire, ir.IntType(count)), INDEX)
        n, place = args[5], args[6]
        for lane in range(count):
            builder.store(place, code.at(places, n))
            bit = builder.lshr(bits, ir.Constant(INDEX, lane))
            n = builder.add(n, builder.and_(bit, ir.Constant(INDEX, 1)))
            place = builder.add(place, args[7])
        return n

    index = types.intp
    kept = (positions, index, types.uint32, types.uint32, bases, index, index, index)
    return index(*kept), generate


@intrinsic
def claim(typingctx, counters, index):
    """Take the next number from ``counters[index]``; no other thread gets the same."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        place = builder.gep(array.data, [args[1]])
        return builder.atomic_rmw("add", place, ir.Constant(INDEX, 1), "acq_rel")

    return types.int64(counters, types.intp), generate


@intrinsic
def peek(typingctx, counters, index):
    """Read ``counters[index]``, which other threads change."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.load_atomic(builder.gep(array.data, [args[1]]), "acquire", 8)

    return types.int64(counters, types.intp), generate


# c[i, :] = sum over k of a[i, k] * b[k, :]; the others add to c, or give max(c, 0).
dense_wide = _dense(DENSE_ROWS, 2)
dense_narrow = _dense(2 * DENSE_ROWS, 1)
dense_wide_add = _dense(DENSE_ROWS, 2, accumulate=True)
dense_narrow_add = _dense(2 * DENSE_ROWS, 1, accumulate=True)
dense_wide_relu = _dense(DENSE_ROWS, 2, relu=True)
dense_narrow_relu = _dense(2 * DENSE_ROWS, 1, relu=True)
# out[i, :] = sum over taps t of state[bases[i] + offsets[t], :] * filters[t, :]
stencil_wide = _stencil(STENCIL_ROWS, 2)
stencil_narrow = _stencil(2 * STENCIL_ROWS, 1)
# The adjoint of that: seen[i, :] goes back to the neighbours of cell i and to the filters.
scatter_wide = _scatter(SCATTER_ROWS, 2)
scatter_narrow = _scatter(SCATTER_ROWS, 1)
# row = max(row / rms(row) * scale, 0)
normalise_relu = _normalise_relu()
# b = a, one vector.
copy_vector = _copy_vector()
# state[bases[i], channel:] += change[i, :], one vector a row; health += 0 * the sum, which stays 0
# while every number is finite.
add_row, add_four_rows = _add_rows(1), _add_rows(4)
