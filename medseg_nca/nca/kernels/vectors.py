"""Vector code for compiled loops: the width of this processor's vectors, and how to emit them."""

# numba types the intrinsics when it compiles a caller.
# mypy: allow-untyped-defs
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils

INDEX, WORD, HALF = ir.IntType(64), ir.IntType(32), ir.IntType(16)


@cache
def vector_bytes() -> int:
    """Width of this processor's vectors in bytes."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx") and features.get("fma") else 16


# Registers that a tile's accumulators may fill: AVX-512 and NEON have 32, the others 16.
WIDE_FILE = vector_bytes() == 64 or not llvm.get_default_triple().startswith(("x86", "i"))
# Rows of a tile that is two vectors wide; two of them make a tile that is one vector wide.
DENSE_ROWS = 12 if WIDE_FILE else 6
STENCIL_ROWS = 12 if WIDE_FILE else 6
SCATTER_ROWS = 8 if WIDE_FILE else 4
# Cells that are computed at a time: a multiple of all of the above and of their doubles.
BLOCK = 96


def lanes(itemsize: int) -> int:
    """How many numbers of ``itemsize`` bytes fit into a vector."""
    return vector_bytes() // itemsize


class Emitter:
    """Emits code on flat arrays of one element type, float32 or float64.

    16-bit integers in memory are the upper halves of float32: bfloat16, rounded to the nearest.
    """

    def __init__(self, context: Any, builder: Any, element: Any) -> None:
        self.context, self.builder = context, builder
        self.scalar = context.get_value_type(element)
        self.size = element.bitwidth // 8
        self.lanes = vector_bytes() // self.size
        self.vector = ir.VectorType(self.scalar, self.lanes)

    def data(self, array_type: Any, value: Any) -> Any:
        """The address of an array's first element."""
        array = self.context.make_array(array_type)(self.context, self.builder, value)
        return array.data

    def at(self, data: Any, index: Any) -> Any:
        """The address of an element."""
        return self.builder.gep(data, [index])

    def load(self, data: Any, index: Any) -> Any:
        """The vector that begins at an element."""
        if data.type.pointee == HALF:
            half = self.builder.load(self._pointer(data, index, HALF), align=2)
            wide = self.builder.zext(half, self._words)
            return self.builder.bitcast(self.builder.shl(wide, self._word(16)), self.vector)
        return self.builder.load(self._pointer(data, index, self.scalar), align=self.size)

    def store(self, value: Any, data: Any, index: Any) -> None:
        """Write a vector from an element on."""
        if data.type.pointee == HALF:
            builder = self.builder
            word = builder.bitcast(value, self._words)
            odd = builder.and_(builder.lshr(word, self._word(16)), self._word(1))
            word = builder.add(word, builder.add(odd, self._word(0x7FFF)))
            upper = builder.trunc(
                builder.lshr(word, self._word(16)), ir.VectorType(HALF, self.lanes)
            )
            builder.store(upper, self._pointer(data, index, HALF), align=2)
            return
        self.builder.store(value, self._pointer(data, index, self.scalar), align=self.size)

    @property
    def _words(self) -> Any:
        return ir.VectorType(WORD, self.lanes)

    def _word(self, value: int) -> Any:
        return ir.Constant(self._words, [value] * self.lanes)

    def _pointer(self, data: Any, index: Any, element: Any) -> Any:
        kind = ir.VectorType(element, self.lanes).as_pointer()
        return self.builder.bitcast(self.at(data, index), kind)

    def splat(self, data: Any, index: Any) -> Any:
        """A vector of one element."""
        return self.spread(self.builder.load(self.at(data, index)))

    def spread(self, value: Any) -> Any:
        """A vector of one value."""
        return self.repeat(value, self.vector)

    def repeat(self, value: Any, vector: Any) -> Any:
        """A vector of that type of one value."""
        nothing = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(nothing, value, ir.Constant(WORD, 0))
        mask = ir.Constant(ir.VectorType(WORD, vector.count), [0] * vector.count)
        return self.builder.shuffle_vector(first, nothing, mask)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """``a * b + c``, fused where the processor can."""
        return self.builder.call(self.function("llvm.fmuladd", self.vector, 3), [a, b, c])

    def function(self, name: str, kind: Any, arguments: int) -> Any:
        """One of LLVM's own functions, from so many values of one type to a value of it."""
        element = "f32" if self.size == 4 else "f64"
        suffix = f"v{self.lanes}{element}" if kind is self.vector else element
        signature = ir.FunctionType(kind, [kind] * arguments)
        return cgutils.get_or_insert_function(self.builder.module, signature, f"{name}.{suffix}")

    def total(self, value: Any) -> Any:
        """The sum of a vector's numbers, in any order."""
        while value.type.count > 1:
            half = value.type.count // 2
            parts = []
            for first in (0, half):
                chosen = ir.VectorType(WORD, half)
                mask = ir.Constant(chosen, list(range(first, first + half)))
                parts.append(self.builder.shuffle_vector(value, value, mask))
            value = self.builder.fadd(*parts)
        return self.builder.extract_element(value, ir.Constant(WORD, 0))

    def zero(self) -> Any:
        """A vector of zeros."""
        return ir.Constant(self.vector, [0.0] * self.lanes)

    def positive(self, value: Any) -> Any:
        """``max(value, 0)``; what is not a number stays so."""
        negative = self.builder.fcmp_ordered("<", value, self.zero())
        return self.builder.select(negative, self.zero(), value)

    def accumulators(self, rows: int, vectors: int) -> list[list[Any]]:
        """Variables that the optimiser turns into registers."""
        make = cgutils.alloca_once
        return [[make(self.builder, self.vector) for _ in range(vectors)] for _ in range(rows)]

    def rows(self, start: Any, stride: Any, count: int) -> list[Any]:
        """The offsets ``start + i * stride``."""
        offsets = [start]
        for _ in range(count - 1):
            offsets.append(self.builder.add(offsets[-1], stride))
        return offsets

    def columns(self, start: Any, vectors: int) -> list[Any]:
        """The offsets of consecutive vectors."""
        width = ir.Constant(INDEX, self.lanes)
        return self.rows(start, width, vectors)


def typing_and_code(arrays: Sequence[int], emit: Callable[..., None]) -> Any:
    """An intrinsic whose arguments at the positions ``arrays`` are arrays, the others indices."""

    def typed(args: tuple[Any, ...]) -> Any:
        kept = [a if i in arrays else types.intp for i, a in enumerate(args)]
        return types.void(*kept)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = signature.args[arrays[0]].dtype
        bfloat16 = isinstance(element, types.Integer)
        code = Emitter(context, builder, types.float32 if bfloat16 else element)
        values = [
            code.data(kind, value) if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args, strict=True)
        ]
        emit(code, *values)
        return context.get_dummy_value()

    return typed, generate
