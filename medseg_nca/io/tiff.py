"""Read TIFF: one picture, or the pages of one stack, and nothing that is left over.

tifffile decodes; what it only logs (a page that is missing, tiles that are filled up) is an error
here. Colours of a palette are applied to images, and so is "min is white"; label maps keep the
numbers that are stored.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import MAX_INFLATION, check_claim
from medseg_nca.io.held import Held, Restore
from medseg_nca.io.picture import (
    SPLIT,
    DecodedPicture,
    check_size,
    damaged,
    lossy_label,
    several_pictures,
    told_of_palette,
)
from medseg_nca.io.tiff_segments import LOSSY_OR_NOT, check_segments, is_lossless

SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# Tags.
_ORIENTATION, _RESOLUTION_X, _RESOLUTION_Y, _UNIT = 274, 282, 283, 296
_CENTIMETRE = 3
# Photometric interpretations.
_MIN_IS_WHITE, _GREY, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_KNOWN = {_MIN_IS_WHITE, _GREY, _RGB, _PALETTE}
_COLOURS = {4: "a mask of transparency", 5: "printing colours (CMYK)", 8: "CIE Lab", 9: "ICC Lab"}
# Compressions, by number: none; deflate in its kinds; LZW; PackBits; JPEG in its kinds.
_NONE, _DEFLATE, _LZW, _PACKBITS, _JPEG = 1, {8, 32946, 50013}, 5, 32773, {6, 7, 33007, 34892}
# What a byte can become at most. An LZW code of 12 bit stands for 4096 bytes, PackBits repeats
# one byte 128 times; what is not listed (fax, Zstandard, WebP, LZMA) knows no bound.
_INFLATION = {**dict.fromkeys(_DEFLATE, float(MAX_INFLATION)), _LZW: 4096 * 8 / 9, _PACKBITS: 64.0}
# Fax, LZW, PackBits, deflate, LZMA, Zstandard, PNG: the numbers are those that were packed.
_LOSSLESS = {_NONE, 2, 3, 4, _LZW, _PACKBITS, *_DEFLATE, 34925, 34933, 50000}
# Axes of a stack: depth, or pages that nobody named.
_STACK = {"Z", "I", "Q"}
_AXIS_NAMES = {
    "T": "time points",
    "C": "channels",
    "S": "samples",
    "R": "tiles",
    "H": "wavelengths",
}
# What tifffile logs when it gives up a part of the file; the rest is about details of private tags,
# whose numbers begin at 32768. What stands in <> only names the object that complains.
_LOSS = re.compile(
    r"series|page|IFD|missing|corrupt|truncat|zeroed|incorrect|keyframe", re.IGNORECASE
)
_TAG = re.compile(r"TiffTag (\d+)")
_OBJECT = re.compile(r"<[^<>]*>")
_PRIVATE = 32768


def read_tiff(path: Path, *, label: bool) -> DecodedPicture:
    """Read one TIFF.

    Args:
        path: the file.
        label: keep the stored numbers of a palette or of "min is white".

    Raises:
        ImageError: if it is damaged or truncated, holds more than one picture or stack, or its
            axes, bits or colours cannot be understood; for a label map also if it is lossy.
    """
    try:
        with _listening() as heard, _opened(path) as file:
            pages = list(file.pages)
            series = _the_series(path, file, pages)
            if lost := next(filter(_is_loss, heard), None):
                raise damaged(path, lost)
            page = series.keyframe
            _check_kind(path, page, label)
            _check_claims(path, series, page)
            check_segments(path, series)
            heard.clear()
            array = series.asarray(maxworkers=1)
            if heard:
                raise damaged(path, heard[0])
            own = [pages[p.index] for p in series.pages if isinstance(p.index, int)]
            return _picture(path, file, series, own, array, label)
    except ImageError:
        raise
    except Exception as error:  # tifffile and its codecs raise whatever they like
        raise damaged(path, error) from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file. Pages that were written one after the other with their shapes are one stack.

    tifffile takes each for a series of its own, and without those shapes for slices, as all do.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        if not _are_slices(file):
            yield file
            return
    with tifffile.TiffFile(path, is_shaped=False) as file:
        yield file


def _are_slices(file: Any) -> bool:
    """Whether tifffile wrote the pages one by one, each of the same kind."""
    kinds = {(one.kind, len(one.pages), one.shape, one.axes, one.dtype) for one in file.series}
    return len(file.series) > 1 and len(kinds) == 1 and kinds.pop()[:2] == ("shaped", 1)


def _is_loss(text: str) -> bool:
    """Whether tifffile says that it leaves out a part of the file."""
    tag = _TAG.search(text)
    if tag is not None:
        return int(tag[1]) < _PRIVATE
    return bool(_LOSS.search(_OBJECT.sub("", text)))


def _make_tifffile_talk() -> Restore:
    log = logging.getLogger("tifffile")
    before = (log.disabled, log.level, log.propagate, log.manager.disable)
    log.disabled, log.propagate, log.manager.disable = False, False, logging.NOTSET
    log.setLevel(logging.WARNING)

    def restore() -> None:
        log.disabled, level, log.propagate, log.manager.disable = before
        log.setLevel(level)

    return restore


# Other code can switch off what tifffile logs, and there it says what it leaves out.
_TALKING = Held(_make_tifffile_talk)


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Collect what tifffile logs in this thread, warnings and worse, instead of showing it."""
    heard: list[str] = []
    here = threading.get_ident()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if threading.get_ident() == here:
                heard.append(record.getMessage())

    log, ear = logging.getLogger("tifffile"), Ear(logging.WARNING)
    log.addHandler(ear)
    try:
        with _TALKING.held():
            yield heard
    finally:
        log.removeHandler(ear)


def _the_series(path: Path, file: Any, pages: Sequence[Any]) -> Any:
    """The one picture or stack of the file; smaller copies of it are passed over."""
    if any(math.prod(getattr(page, "shape", (1,)) or (0,)) == 0 for page in pages):
        raise damaged(path, "a page has no pixels")
    found = [one for one in file.series if not _is_copy(one.keyframe)]
    if len(found) != 1:
        shapes = ", ".join(" x ".join(map(str, one.shape)) for one in found[:3])
        raise several_pictures(path, f"{len(found)} pictures or stacks ({shapes})")
    series = found[0]
    if any(page is None for page in series.pages):
        raise damaged(path, "pages of the stack are missing")
    if any(getattr(page, "parent", file) is not file for page in series.pages):
        raise ImageError(
            f"{path}: is one of several files of a stack.", hint="Save the stack as one file."
        )
    for level in series.levels[1:]:
        if not (_is_copy(level.keyframe) or level.keyframe.is_subifd):
            raise several_pictures(path, "pictures of several sizes")
    if any(getattr(page, "is_mask", False) for page in pages):
        raise several_pictures(path, "a mask of what may be seen beside its picture")
    used = {page.index for level in series.levels for page in level.pages}
    used |= {page.index for one in file.series if one is not series for page in one.pages}
    virtual = len(pages) != len({page.offset for page in pages})
    left = [page for page in pages if page.index not in used and not _is_copy(page)]
    if left and not virtual and series.dataoffset is None:
        raise several_pictures(path, f"{len(left)} pages beside its stack of {len(series.pages)}")
    if len(series.levels) == 1 and any(getattr(page, "subifds", None) for page in pages):
        raise several_pictures(path, "pictures within pictures (SubIFDs)")
    return series


def _is_copy(page: Any) -> bool:
    """Whether a page declares itself a smaller copy of another."""
    return bool(getattr(getattr(page, "keyframe", page), "is_reduced", False))


def _check_kind(path: Path, page: Any, label: bool) -> None:
    """Refuse codecs, colours and numbers that are not understood."""
    import tifffile

    kind, codec = int(page.photometric), int(page.compression)
    if kind not in _KNOWN and not (kind == _YCBCR and codec in _JPEG):
        what = _COLOURS.get(kind, f"the colours {getattr(page.photometric, 'name', kind)}")
        raise ImageError(
            f"{path}: holds {what}; grey, RGB and palettes can be read.",
            hint="Save it as a grey or RGB picture.",
        )
    if codec != _NONE and codec not in tifffile.TIFF.DECOMPRESSORS:
        name = getattr(page.compression, "name", codec)
        raise ImageError(
            f"{path}: is packed by a codec that cannot be read ({name}).",
            hint="Save it with deflate (zip), or unpacked.",
        )
    if page.dtype is None:
        raise ImageError(
            f"{path}: has samples of {page.bitspersample} bit of kind {page.sampleformat}, which "
            "cannot be read.",
            hint="Save it with samples of 8, 16 or 32 bit, all of one kind.",
        )
    if kind == _MIN_IS_WHITE and page.dtype.kind not in "bu" and not label:
        raise ImageError(
            f"{path}: calls its lowest number white, and has numbers without an end "
            f"({page.dtype}).",
            hint="Save it with the photometric interpretation 'min is black'.",
        )


def _check_claims(path: Path, series: Any, page: Any) -> None:
    """Compare what is claimed with what the codec can do, before memory is taken."""
    codec = int(page.compression)
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 8
    packed = math.prod(series.shape) * bits // 8
    bounded = codec == _NONE or codec in _INFLATION
    if bounded:
        factor = _INFLATION.get(codec, 1.0)
        check_claim(path, (max(packed, 1),), 1, compressed=codec != _NONE, inflation=factor)
    check_size(path, int(series.nbytes), bounded=bounded)


def _picture(
    path: Path, file: Any, series: Any, own: Sequence[Any], array: NDArray[Any], label: bool
) -> DecodedPicture:
    page = series.keyframe
    if label and int(page.compression) not in _LOSSLESS and not is_lossless(path, page):
        name = getattr(page.compression, "name", str(page.compression))
        raise lossy_label(path, name, certain=int(page.compression) in LOSSY_OR_NOT)
    array, alpha = _arranged(path, page, array, series.axes)
    kind = int(page.photometric)
    if kind == _PALETTE and not label:
        array = _coloured(path, own, page, array)
    elif kind == _MIN_IS_WHITE and not label:
        array = _inverted(page, array)
    told = _told(page, array) if label else {}
    return DecodedPicture(array, alpha, _orientation(path, own), _pixel_size(file, page), told)


def _inverted(page: Any, array: NDArray[Any]) -> NDArray[Any]:
    """Black for 0, where the file has white."""
    if array.dtype == np.bool_:
        return ~array
    return np.asarray((2**page.bitspersample - 1) - array, array.dtype)


def _told(page: Any, array: NDArray[Any]) -> dict[str, str]:
    """What a reader should know of the numbers of a label map."""
    if int(page.photometric) == _PALETTE and page.colormap is not None:
        return told_of_palette(np.asarray(page.colormap).T, array)
    if int(page.photometric) == _MIN_IS_WHITE:
        text = "is a label map that is shown with white for 0; its numbers are taken as stored."
        return {"min is white": text}
    return {}


def _arranged(path: Path, page: Any, array: NDArray[Any], axes: str) -> tuple[NDArray[Any], bool]:
    """Sort tifffile's axes into ([page,] row, column, band), and tell whether there is an alpha."""
    kept = [k for k, n in enumerate(array.shape) if n > 1 or axes[k] in "YX"]
    array, axes = array.reshape([array.shape[k] for k in kept]), "".join(axes[k] for k in kept)
    channels = [k for k, name in enumerate(axes) if name in "SC"]
    rest = "".join(name for name in axes if name not in "SC")
    stack = rest.removesuffix("YX")
    if len(channels) > 1 or not rest.endswith("YX") or len(stack) > 1 or not set(stack) <= _STACK:
        raise _unknown_axes(path, axes, array.shape)
    if not channels:
        return array[..., None], False
    samples = axes[channels[0]] == "S"
    array = np.moveaxis(array, channels[0], -1)
    return _bands(array, page) if samples else (array, False)


def _bands(array: NDArray[Any], page: Any) -> tuple[NDArray[Any], bool]:
    """Whether the last sample of a pixel is its alpha; one of unknown meaning counts as a band.

    Only a fourth sample beside RGB that is the same everywhere is dropped: it holds nothing.
    """
    extra = tuple(int(kind) for kind in page.extrasamples)
    if len(extra) == 1 and extra[0] in (1, 2):
        return array, True
    unsaid = int(page.photometric) == _RGB and array.shape[-1] == 4 and len(extra) < 2
    if unsaid and (array[..., 3] == array[..., 3].flat[0]).all():
        return array[..., :3], False
    return array, False


def _unknown_axes(path: Path, axes: str, shape: Sequence[int]) -> ImageError:
    names = [
        f"{n} {_AXIS_NAMES[name]}"
        for name, n in zip(axes, shape, strict=True)
        if name in _AXIS_NAMES and name not in "S"
    ]
    what = f" ({', '.join(names)})" if names else ""
    return ImageError(
        f"{path}: has the TIFF axes {axes}{what}; a picture (YX, YXS) or a stack of pages (ZYX) "
        "can be read.",
        hint=SPLIT,
    )


def _coloured(path: Path, own: Sequence[Any], page: Any, array: NDArray[Any]) -> NDArray[Any]:
    """The colours of a palette; 8 bit where its numbers of 16 bit say no more."""
    maps = [p.colormap for p in own if getattr(p, "colormap", None) is not None] or [page.colormap]
    if any(not np.array_equal(maps[0], other) for other in maps[1:]):
        raise ImageError(f"{path}: has pages with different palettes.", hint="Save it as RGB.")
    colours = np.asarray(maps[0])
    if (colours % 257 == 0).all() or (colours % 256 == 0).all():
        colours = (colours >> 8).astype(np.uint8)
    return np.asarray(np.moveaxis(colours[:, array[..., 0]], 0, -1))


def _orientation(path: Path, own: Sequence[Any]) -> int:
    tags = (getattr(page, "tags", None) for page in own)
    found = {int(t[_ORIENTATION].value) if _ORIENTATION in t else 1 for t in tags if t is not None}
    if len(found) > 1:
        raise ImageError(
            f"{path}: has pages that are turned differently (Orientation {sorted(found)}).",
            hint="Save the pages upright.",
        )
    return found.pop() if found else 1


def _pixel_size(file: Any, page: Any) -> str | None:
    """What the file says of a pixel's size, apart from dots per inch, which are for printers."""
    if file.is_ome:
        sizes = dict(re.findall(r'PhysicalSize([XYZ])="([^"]+)"', file.ome_metadata or ""))
        said = re.search(r'PhysicalSizeXUnit="([^"]+)"', file.ome_metadata or "")
        known = " x ".join(sizes[axis] for axis in "XYZ" if axis in sizes)
        return f"{known} {said[1] if said else 'µm'}" if known else None
    tags = page.tags
    if _RESOLUTION_X not in tags or _RESOLUTION_Y not in tags:
        return None
    steps = [_per_pixel(tags[tag].value) for tag in (_RESOLUTION_X, _RESOLUTION_Y)]
    imagej = (file.imagej_metadata or {}) if file.is_imagej else {}
    unit, apart = imagej.get("unit"), imagej.get("spacing")
    if unit is None and _UNIT in tags and int(tags[_UNIT].value) == _CENTIMETRE:
        unit = "cm"
    if not unit or unit in {"pixel", "inch"} or None in steps:
        return None
    depth = f" x {float(apart):.4g}" if apart else ""
    return f"{steps[0]:.4g} x {steps[1]:.4g}{depth} {unit}"


def _per_pixel(resolution: Any) -> float | None:
    """Units a pixel, of (pixels, units)."""
    pixels, units = resolution
    return float(units) / float(pixels) if pixels and units else None
