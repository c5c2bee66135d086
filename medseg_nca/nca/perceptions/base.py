"""The seam of perceptions: what a cell, the engines and the estimates ask of one.

A perception is a class derived from :class:`Perception`. One that is a bank of filters derives from
:class:`FilterPerception`; the compiled engines serve it, whoever wrote it.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from medseg_nca.config.bounds import MAX_KERNEL
from medseg_nca.config.model import PerceptionSettings
from medseg_nca.nca.border import border_index
from medseg_nca.nca.depthwise import convolve, depthwise


class FilterBank(NamedTuple):
    """The shape of a bank of filters, by which an engine knows whether it serves it.

    Attributes:
        kernel: size of the filters along every axis, an odd number of cells.
        mixes: whether each filter reads all channels; if not, each channel has filters of its own.
        dilation: cells from one value of a filter to the next.
    """

    kernel: int
    mixes: bool
    dilation: int


class Perception(nn.Module):
    """What every cell computes from its neighbourhood.

    Keyword-only arguments of a derived class are its ``params`` in the settings; it raises
    ``ValueError`` for a value that cannot be.

    Args:
        settings: ``model.cell.perception``.
        channels: number of channels of the state, those of the image included.
        dims: number of spatial axes, 2 or 3.

    Attributes:
        reads: which of the settings ``kernel``, ``filters`` and ``dilation`` the class reads;
            others are refused.
        local: whether tiles give the result of the whole grid; False if a cell sees all cells.
        features: how many values a cell perceives besides its own state.
        radius: how far a cell sees in one step, in cells.
        bank: the shape of the filters if this is a bank of them, else None.
        working: numbers that a cell takes while this is computed, beside state and features.
        kept: numbers that a training step keeps for each cell, beside state and features.
    """

    reads: ClassVar[frozenset[str]] = frozenset()
    local: bool = True
    features: int
    radius: int
    bank: FilterBank | None = None
    working: int = 0
    kept: int = 0

    def __init__(self, settings: PerceptionSettings, channels: int, dims: int) -> None:
        super().__init__()
        self.settings, self.channels, self.dims = settings, channels, dims

    def forward(self, state: Tensor) -> Tensor:
        """Map the state ``(B, *spatial, C)`` to the perceived ``(B, *spatial, features)``."""
        raise NotImplementedError

    def filters(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias of the bank, as ``torch.nn.functional.conv3d`` takes them.

        The weight is ``(features, C, *kernel)`` if the filters mix channels; else
        ``(features, 1, *kernel)``, where the filters of a channel lie side by side.
        """
        raise NotImplementedError(f"{type(self).__name__} is no bank of filters")

    @property
    def flop(self) -> float:
        """Floating-point operations of one cell in one step; here two for each number of a filter.

        Fixed filters count as learned ones do.
        """
        return 2.0 * sum(w.numel() for w in (*self.parameters(), *self.buffers()) if w.ndim > 1)

    def padded(self, state: Tensor, width: int) -> Tensor:
        """Return a state ``(B, *spatial, C)`` with ``width`` cells more on each side of every axis.

        What lies there is what the setting ``padding`` says.
        """
        if not width:
            return state
        if self.settings.padding == "zero":
            return F.pad(state, (0, 0, *(width,) * 2 * self.dims))
        for axis in range(1, state.ndim - 1):
            index = border_index(state.shape[axis], width, self.settings.padding)
            state = state.index_select(axis, index.to(state.device))
        return state


class FilterPerception(Perception):
    """A bank of filters, which may be dilated.

    With ``dilation`` the values of a filter lie that many cells apart, so it sees further for the
    same number of weights (Yu and Koltun, Multi-Scale Context Aggregation by Dilated Convolutions,
    arXiv 1511.07122).

    Args:
        settings: ``model.cell.perception``.
        channels: number of channels of the state.
        dims: number of spatial axes.
        weight: see :meth:`filters`; an ``nn.Parameter`` is learned, a tensor stays as it is.
        bias: ``(features,)`` or None.
        mixes: whether each filter reads all channels.

    Raises:
        ValueError: if the weight or the bias has another shape, or the filters see too far.
    """

    reads = frozenset({"dilation"})
    weight: Tensor

    def __init__(
        self, settings: PerceptionSettings, channels: int, dims: int, weight: Tensor,
        bias: nn.Parameter | None = None, *, mixes: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(settings, channels, dims)
        if isinstance(weight, nn.Parameter):
            self.weight = weight
        else:
            self.register_buffer("weight", weight)
        self.bias = bias
        self._check_shapes(mixes)
        kernel, dilation = weight.shape[-1], settings.dilation
        self.bank = FilterBank(kernel, mixes, dilation)
        self.radius = dilation * (kernel // 2)
        if 2 * self.radius + 1 > MAX_KERNEL:
            raise ValueError(
                f"filters of {kernel} cells with a dilation of {dilation} see {self.radius} cells "
                f"far, and {MAX_KERNEL // 2} are allowed"
            )
        self.features = weight.shape[0]
        self.mixes, self.dilation = mixes, dilation

    def _check_shapes(self, mixes: bool) -> None:
        """Compiled loops read the weights by their shape, and would not notice another one."""
        shape = tuple(self.weight.shape)
        sizes = set(shape[2:])
        reads = self.channels if mixes else 1
        if (
            len(shape) != self.dims + 2
            or len(sizes) != 1
            or min(sizes) % 2 == 0
            or not shape[0]
            or shape[1] != reads
            or (not mixes and shape[0] % self.channels)
        ):
            features = "features" if mixes else f"a multiple of {self.channels}"
            axes = ", ".join(["k"] * self.dims)
            raise ValueError(
                f"weight must be ({features}, {reads}, {axes}) with one odd k, got {shape}"
            )
        if self.bias is not None and tuple(self.bias.shape) != shape[:1]:
            raise ValueError(f"bias must be ({shape[0]},), got {tuple(self.bias.shape)}")

    def filters(self) -> tuple[Tensor, Tensor | None]:
        """See :meth:`Perception.filters`."""
        return self.weight, self.bias

    def forward(self, state: Tensor) -> Tensor:
        """See :meth:`Perception.forward`."""
        weight, bias = self.filters()
        padding = self.radius
        if self.settings.padding != "zero" and padding:
            state = self.padded(state, padding)
            padding = 0
        x = state.movedim(-1, 1)
        if self.mixes:
            y = convolve(x, weight, bias, padding, 1, self.dilation)
        else:
            y = depthwise(x, weight, bias, padding, self.dilation)
        return y.movedim(1, -1)
