"""How large a setting may be: far beyond every serious model, near enough to stop a slip.

A settings file, and more so a model from elsewhere, may name any number. What lies beyond these is
no research but a typing error or an attack, and is refused before anything is computed from it.
"""

from __future__ import annotations

import reprlib
import unicodedata
from math import prod
from typing import Annotated

from pydantic import AfterValidator, Field

# 31 cells to each side; the published automata see 1 to 3, and a level sees further by its steps.
MAX_KERNEL = 63
# Cells from one value of a filter to the next; with a kernel of 3 it sees 31 cells far.
MAX_DILATION = 31
# 64 is the most that is published. The weights grow with their square.
MAX_CHANNELS = 1024
# 256 is the most that is published.
MAX_HIDDEN = 8192
# For each channel; 2 are published, and fixed filters are 4.
MAX_FILTERS = 64
# OctreeNCA has five; each usually halves the next, and 2 ** 15 voxels are longer than any axis.
MAX_LEVELS = 16
MAX_PATCHES = 64
# 100 are published; a signal crosses any grid in fewer steps than this.
MAX_STEPS = 10_000
# Times the trained steps; 8 are looked at.
MAX_STEP_FACTOR = 100
# Voxels along one axis: a whole-slide image at the magnification that is segmented.
MAX_AXIS = 2**17
# Voxels that one cell of a level covers, 256 x 256 x 256: images are padded to whole cells.
MAX_CELL_VOXELS = 2**24
# Voxels of a training sample, 512 x 512 x 512: images are padded to its size.
MAX_CROP_VOXELS = 2**27
# In mm; finer than any medical image, so that a slip in a file cannot fill the memory.
MIN_SPACING = 1e-4
# In mm; ten metres are larger than any patient, so that nothing would be left of an image.
MAX_SPACING = 1e4
# Different directions of the axes in one data set: there are no more.
MAX_ORIENTATIONS = 48
# Intensities: their differences and sums stay within float32.
MAX_INTENSITY = 1e30
# Different intensities of an image that are counted: those of a picture of 8 bits.
MAX_GRADES = 256
# Stochastic passes; 10 to 100 are usual, and the spread changes little beyond.
MAX_PASSES = 1000
# Of an ensemble; 5 are usual, and each costs as much as a model.
MAX_MEMBERS = 64
# In GB: a thousand times the memory of the largest machine.
MAX_MEMORY_GB = 1e6
# A model of more labels has no use for its names; TotalSegmentator has 117.
MAX_LABELS = 4096
# Label maps are written as int32 at most.
MIN_LABEL, MAX_LABEL = -(2**31), 2**31 - 1
# Arguments of a network that is not an automaton: numbers and words in all, and how deeply nested.
MAX_PARAMS, MAX_PARAMS_DEPTH = 256, 6
# The largest size among them: channels of the widest networks are a tenth of it.
MAX_PARAM = 2**16

# Characters of a name.
MAX_NAME = 1000
# Characters that an error message spends on one fault.
MAX_LINE = 400

LabelValue = Annotated[int, Field(ge=MIN_LABEL, le=MAX_LABEL)]
Intensity = Annotated[float, Field(ge=-MAX_INTENSITY, le=MAX_INTENSITY)]
MemoryGb = Annotated[float, Field(gt=0, le=MAX_MEMORY_GB)]


def _printable(name: str) -> str:
    if any(unicodedata.category(c) == "Cc" for c in name):
        raise ValueError("a name has no control characters")
    return name


Name = Annotated[str, Field(max_length=MAX_NAME), AfterValidator(_printable)]
# Like a file's name, without its suffix.
PlainName = Annotated[str, Field(max_length=MAX_NAME, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


def short(value: object) -> str:
    """A value for an error message, however large it is."""
    return reprlib.repr(value)


def plain(text: str) -> str:
    """The first line of a text from anywhere, short, and without what a terminal would obey."""
    line = text.partition("\n")[0]
    line = line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def check_axes(name: str, values: tuple[int, ...], dims: int, most: int, what: str) -> None:
    """Refuse sizes per axis that are none, are not one an axis, or make too much together.

    Args:
        name: of the setting.
        values: sizes in voxels.
        dims: how many axes there are.
        most: voxels that the sizes may make.
        what: they are the size of.

    Raises:
        ValueError: saying what is allowed.
    """
    if len(values) != dims or any(not 0 < v <= MAX_AXIS for v in values):
        raise ValueError(
            f"{name} must be {dims} numbers above 0, at most {MAX_AXIS}, got {short(values)}"
        )
    if prod(values) > most:
        raise ValueError(f"{name} {short(values)} makes {what} of more than {most:,} voxels")


def check_params(params: object) -> None:
    """Refuse arguments of a network that are too many, too large or too deeply nested.

    Raises:
        ValueError: saying what is allowed.
    """
    count = _count(params, 0)
    if count > MAX_PARAMS:
        raise ValueError(f"params hold {count} values; at most {MAX_PARAMS} are allowed")


def _count(value: object, depth: int) -> int:
    if depth > MAX_PARAMS_DEPTH:
        raise ValueError(f"params are nested more than {MAX_PARAMS_DEPTH} deep")
    if isinstance(value, int | float) and not -MAX_PARAM <= value <= MAX_PARAM:
        raise ValueError(f"params hold {short(value)}; sizes are at most {MAX_PARAM}")
    if isinstance(value, dict):
        return sum(1 + _count(item, depth + 1) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(_count(item, depth + 1) for item in value)
    return 1
