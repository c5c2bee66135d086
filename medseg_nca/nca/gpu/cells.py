"""Parts of kernels: where a cell lies, whom it sees beyond a border, and whether it fires.

All grids have three axes; a 2D grid has ``n1 = 1``. A program works on one tile of cells. Arrays
are channels-last, ``(B, n0, n1, n2, CS)``: ``CS`` is the number of channels rounded up to 16 bytes,
``CP`` the power of two that tiles of channels have.
"""

from __future__ import annotations

from medseg_nca.nca.fire import MUL_A, MUL_B
from medseg_nca.nca.gpu.language import constant, part, tl

_MUL_A, _MUL_B, _MUL_AXIS = constant(MUL_A), constant(MUL_B), constant(0x9E3779B1)


@part
def near_border(p, n, PADDING: tl.constexpr, NEAR: tl.constexpr):
    """Index of the cell that position ``p`` of an axis of ``n`` cells copies.

    With zero padding it is ``p``, and whoever reads must leave out what is outside. NEAR says that
    no position is further out than one reflection or one turn brings back.
    """
    index = p
    if PADDING == "reflect":
        if NEAR:
            index = tl.abs(p)
            index = tl.where(index >= n, 2 * (n - 1) - index, index)
        else:
            period = tl.maximum(2 * (n - 1), 1)
            index = p % period
            index = tl.where(index < 0, index + period, index)
            index = tl.minimum(index, period - index)
    elif PADDING == "circular":
        if NEAR:
            index = tl.where(p < 0, p + n, p)
            index = tl.where(index >= n, index - n, index)
        else:
            index = p % n
            index = tl.where(index < 0, index + n, index)
    return index


@part
def tile_cells(tile, m1, m2, T0: tl.constexpr, T1: tl.constexpr, T2: tl.constexpr):
    """Coordinates of the cells of a tile, of ``m1`` x ``m2`` tiles on the last two axes."""
    cell = tl.arange(0, T0 * T1 * T2)
    i0 = tile // (m1 * m2) * T0 + cell // (T1 * T2)
    i1 = tile // m2 % m1 * T1 + cell // T2 % T1
    i2 = tile % m2 * T2 + cell % T2
    return i0, i1, i2


@part
def mixed(x):
    """The hash of :mod:`medseg_nca.nca.fire` on unsigned 32-bit numbers."""
    x = (x ^ (x >> 16)) * _MUL_A
    x = (x ^ (x >> 15)) * _MUL_B
    return x ^ (x >> 16)


@part
def turned(code, position):
    """Mix a position on an axis into a hash."""
    return mixed(code ^ (position.to(tl.uint32, bitcast=True) * _MUL_AXIS))


@part
def firing(
    live, sample, cell, i0, i1, i2, o0, o1, o2,
    seeds_ptr, awake_ptr, key, level,
    DIMS: tl.constexpr, EVERY: tl.constexpr, AWAKE: tl.constexpr,
):  # fmt: skip
    """Which cells update: the mask that :meth:`medseg_nca.nca.fire.Fire.firing` gives."""
    fires = live
    if not EVERY:
        code = tl.load(seeds_ptr + sample).to(tl.uint32, bitcast=True)
        code = turned(code, i0 + o0)
        if DIMS == 3:
            code = turned(code, i1 + o1)
        code = turned(code, i2 + o2)
        code = mixed(code ^ key.to(tl.uint32, bitcast=True))
        fires = fires & (code.to(tl.int32, bitcast=True) < level)
    if AWAKE:
        fires = fires & (tl.load(awake_ptr + cell, mask=live, other=0) != 0)
    return fires


@part
def nearest_bfloat16(x):
    """Round float32 to the nearest bfloat16, ties to even; still stored as float32."""
    bits = x.to(tl.uint32, bitcast=True)
    bits = bits + (((bits >> 16) & 1) + 0x7FFF)
    return (bits & 0xFFFF0000).to(tl.float32, bitcast=True)


@part
def stored(x, pointer):
    """The values as the memory of a pointer keeps them."""
    if pointer.dtype.element_ty == tl.bfloat16:
        x = nearest_bfloat16(x)
    return x.to(pointer.dtype.element_ty)


@part
def upper_part(x):
    """What tf32 keeps of float32; the rest fits into tf32 too, up to some 2^-22 of ``x``."""
    return (x.to(tl.uint32, bitcast=True) & 0xFFFFE000).to(tl.float32, bitcast=True)


@part
def product(a, b, PRECISION: tl.constexpr):
    """Matrix product of two blocks, summed in float32, or float64 for float64 blocks."""
    if PRECISION == "bfloat16":
        c = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    elif PRECISION == "bfloat16 as float32":
        c = tl.dot(nearest_bfloat16(a), nearest_bfloat16(b), input_precision="ieee")
    elif PRECISION == "tf32x3":
        # Barriers keep the operands of one product at a time in registers.
        upper_a, upper_b = upper_part(a), upper_part(b)
        c = tl.dot(a - upper_a, upper_b, input_precision="tf32")
        tl.debug_barrier()
        c = tl.dot(upper_a, b - upper_b, c, input_precision="tf32")
        tl.debug_barrier()
        c = tl.dot(upper_a, upper_b, c, input_precision="tf32")
    elif PRECISION == "float64":
        c = tl.dot(a, b, out_dtype=tl.float64)
    else:
        c = tl.dot(a, b, input_precision=PRECISION)
    return c
