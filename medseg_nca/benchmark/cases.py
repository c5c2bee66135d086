"""What is measured: a cell on a grid, named so that a name says everything."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Self

from medseg_nca.config.loading import validate
from medseg_nca.config.model import CellSettings
from medseg_nca.errors import ConfigError

FORM = (
    "A case is named DIMSd_SIZE_cCHANNELS_hHIDDEN_kKERNEL, for example 3d_64_c16_h64_k3 (64 cells "
    "an axis; 2 or more channels; an odd kernel), with _f2 at the end for 2 depthwise filters a "
    "channel, or _conv2 for 2 full convolutions."
)
_NUMBER = r"([1-9]\d{0,4})"
_NAME = re.compile(
    rf"([23])d_{_NUMBER}_c{_NUMBER}_h{_NUMBER}_k{_NUMBER}(?:_(f|conv){_NUMBER})?", re.ASCII
)


@dataclass(frozen=True)
class Workload:
    """One cell on a square or cubic grid, one sample, one image channel.

    Attributes:
        dims: 2 or 3 axes.
        size: cells an axis.
        channels: of the state, the image's among them.
        hidden: units of the update rule.
        kernel: size of the filters.
        filters: depthwise filters a channel, or full convolutions.
        full: whether the filters mix channels (Med-NCA).
    """

    dims: int
    size: int
    channels: int
    hidden: int
    kernel: int
    filters: int = 1
    full: bool = False

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a name such as ``3d_64_c16_h64_k3`` or ``2d_256_c16_h128_k3_conv2``.

        Raises:
            ConfigError: if it is not of that form; the message gives the form.
        """
        found = _NAME.fullmatch(name)
        if found is None:
            raise ConfigError(f"{name!r} is not the name of a case.", hint=FORM)
        dims, size, channels, hidden, kernel = map(int, found.groups()[:5])
        kind, filters = found[6], int(found[7] or 1)
        case = cls(dims, size, channels, hidden, kernel, filters, full=kind == "conv")
        if case.channels < 2 or case.kernel % 2 == 0 or case.name != name:
            raise ConfigError(f"{name!r} is not the name of a case.", hint=FORM)
        return case

    @property
    def name(self) -> str:
        """The one name of this case."""
        name = f"{self.dims}d_{self.size}_c{self.channels}_h{self.hidden}_k{self.kernel}"
        if self.full:
            return f"{name}_conv{self.filters}"
        return name if self.filters == 1 else f"{name}_f{self.filters}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the grid."""
        return (self.size,) * self.dims

    @property
    def settings(self) -> CellSettings:
        """Of the cell; half of the cells fire.

        Raises:
            ConfigError: if a number is larger than a cell's may be.
        """
        kind = "conv" if self.full else "depthwise"
        tree = {
            "channels": self.channels,
            "perception": {"kind": kind, "kernel": self.kernel, "filters": self.filters},
            "update": {"hidden": self.hidden},
        }
        return validate(CellSettings, tree, source=self.name)


DEFAULT_CASES = (
    Workload(3, 64, 16, 64, 3),
    Workload(3, 64, 16, 64, 7),
    Workload(2, 256, 16, 128, 3, filters=2),
    Workload(2, 256, 16, 128, 3, filters=2, full=True),
)


def sweep(base: Workload, steps: int) -> dict[str, list[tuple[Workload, int]]]:
    """What to measure to see how cost grows: (case, steps) along each axis.

    The size grows up to the base's. Steps and channels grow on a grid of half its size, so that
    textbook training fits into memory.
    """
    small = replace(base, size=max(base.size // 2, 1))
    sizes = sorted({max(base.size * part // 4, 1) for part in (1, 2, 3, 4)})
    channels = sorted({max(base.channels * part // 2, 2) for part in (1, 2, 3, 4)})
    return {
        "size": [(replace(base, size=size), steps) for size in sizes],
        "steps": [(small, count) for count in (1, 2, 5, 10, 20)],
        "channels": [(replace(small, channels=count), steps) for count in channels],
    }
