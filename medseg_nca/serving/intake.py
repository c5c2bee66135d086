"""What a client sends becomes the folder of a job: told by its content, under names of our own.

No name that a client chose becomes part of a path. Members of an archive are called
``file_00001`` and so on, in the order of the archive, with a suffix that their content gives.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import stat
import threading
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.plan import PreprocessPlan
from medseg_nca.errors import ImageError
from medseg_nca.io.content import describe, is_plain_nifti
from medseg_nca.io.dicom.files.sniff import looks_like_dicom
from medseg_nca.io.formats import SUFFIXES, image_suffix
from medseg_nca.io.peek import peek
from medseg_nca.io.volume import spacing_of
from medseg_nca.serving.errors import TooLarge
from medseg_nca.serving.settings import Limits

_CHUNK = 2**18
# Bytes of one member in the list of an archive: 46, its name, and what some programs add.
_MOST_ENTRY = 1000
_BEGINNINGS = (
    (b"NRRD", ".nrrd"), (b"ObjectType", ".mha"), (b"NDims", ".mha"), (b"Comment", ".mha"),
    (b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"BM", ".bmp"),
    (b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"II+\0", ".tif"), (b"MM\0+", ".tif"),
)  # fmt: skip
_PICTURES = (".png", ".jpg", ".bmp", ".tif")
_PILLOW = threading.Lock()
# What systems put into archives by themselves.
_PASSED_OVER = ("__MACOSX", ".DS_Store", "Thumbs.db", "DICOMDIR")
_WHAT = f"Send one image ({', '.join(SUFFIXES)}), or a zip archive of one DICOM series."


@dataclass(frozen=True)
class Received:
    """What lies in the folder of a job.

    Attributes:
        kind: "image" or "dicom".
        files: of it.
        digest: SHA-256 over the content of the files in their order.
    """

    kind: Literal["image", "dicom"]
    files: tuple[Path, ...]
    digest: bytes


def save(stream: BinaryIO, path: Path, most: int) -> int:
    """Write what a client sends into a file of our own name.

    Raises:
        TooLarge: if it is more than allowed.
    """
    size = 0
    with path.open("xb") as file:
        while block := stream.read(_CHUNK):
            size += len(block)
            if size > most:
                raise TooLarge(f"The upload has more than {most:,} bytes.")
            file.write(block)
    return size


def receive(upload: Path, folder: Path, limits: Limits) -> Received:
    """Unpack or rename an upload, and say what it is.

    Args:
        upload: one file in ``folder``, as it was sent.
        folder: it is left with the files of the image and nothing else.
        limits: of archives.

    Raises:
        ImageError: if it is nothing that can be computed.
        TooLarge: if an archive holds too much.
    """
    if upload.stat().st_size == 0:
        raise ImageError("The upload is empty.", hint=_WHAT)
    if _head(upload).startswith(b"PK") and zipfile.is_zipfile(upload):
        _unpack(upload, folder, limits)
        upload.unlink()
    else:
        upload.rename(folder / "file_00001")
    return adopt(folder)


def adopt(folder: Path) -> Received:
    """Say what the files of a folder are, and give each the suffix of its content.

    Raises:
        ImageError: if there is nothing that can be computed, or images and DICOM are mixed.
    """
    images, dicom, strange = [], [], []
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        suffix = suffix_of(path)
        if suffix is not None:
            images.append(path.rename(path.with_name(path.name.split(".")[0] + suffix)))
        elif looks_like_dicom(path):
            dicom.append(path)
        else:
            strange.append(path)
            continue
        with (images if suffix else dicom)[-1].open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    if images and dicom:
        raise ImageError(
            f"The archive holds {len(dicom)} DICOM files and {len(images)} other images.",
            hint="Send one image at a time.",
        )
    if not images and not dicom:
        raise ImageError(_strange(strange), hint=_WHAT)
    if images and strange:
        raise ImageError(
            f"{strange[0].name}: {_strange(strange[:1])} It lies beside an image.",
            hint="Send one image at a time.",
        )
    for path in strange:  # reports and notes lie beside DICOM files
        path.unlink()
    return Received("image" if images else "dicom", tuple(images or dicom), digest.digest())


def link(files: Iterable[Path], folder: Path) -> Received:
    """Put files of this machine into the folder of a job, under names of our own.

    Raises:
        ImageError: if one cannot be read, or they are no image.
    """
    for number, path in enumerate(files, 1):
        target = folder / f"file_{number:05d}"
        try:
            os.link(path.resolve(), target)
        except OSError:  # another disk, or one without links
            try:
                shutil.copyfile(path, target)
            except OSError as error:
                raise ImageError(f"The image cannot be read ({error.strerror}).") from error
    return adopt(folder)


def check_fit(received: Received, plan: PreprocessPlan, voxels: int) -> None:
    """Refuse by its header what the model cannot take, before it waits in the queue.

    Raises:
        TooLarge: if it has more voxels than are allowed.
        ImageError: if it has another number of axes or channels than the model takes.
    """
    if received.kind == "dicom":
        return
    wanted = len(plan.channels)
    if len(received.files) not in (1, wanted):
        raise ImageError(
            f"The archive holds {len(received.files)} image files; the model takes one"
            + (f", or one for each of its {wanted} channels." if wanted > 1 else "."),
            hint="Send one image at a time.",
        )
    shape, channels, affine = _shape(received.files)
    if shape is None:
        for path in received.files:
            if (found := _picture(path)) is not None:
                check_voxels(found, None, plan, voxels)
        return
    check_voxels(shape, affine, plan, voxels)
    size = " x ".join(map(str, shape))
    if len(shape) != plan.dims or (channels is not None and channels != wanted):
        held = f"{len(shape)} axes ({size})" + (
            "" if channels is None else f", {channels} channels"
        )
        raise ImageError(
            f"The image has {held}; the model takes {plan.dims} axes and {wanted} "
            f"channel{'s' if wanted > 1 else ''}.",
            hint="Send an image of that kind, or choose another model.",
        )


def check_voxels(
    shape: tuple[int, ...], affine: NDArray[np.float64] | None, plan: PreprocessPlan, most: int
) -> None:
    """Refuse an image that is too large, as it is or on the grid that the model computes on.

    Args:
        shape: voxels per axis, in any order.
        affine: 4x4 to RAS+ mm, where it is known.
        plan: of the model; its spacing is that of the grid.
        most: voxels that are allowed.

    Raises:
        TooLarge: if it has more.
    """
    count, size = math.prod(shape), " x ".join(map(str, shape))
    hint = "Crop or resample it, or ask who runs the server for more (--max-voxels)."
    if count > most:
        raise TooLarge(
            f"The image has {size} = {count:,} voxels; this server takes {most:,}.", hint=hint
        )
    # A plan without a spacing brings coarser images to the coarsest of its training at most.
    spacing = plan.spacing or (None if plan.training is None else plan.training.coarsest)
    if affine is None or spacing is None or len(shape) != plan.dims:
        return
    resampled = count * math.prod(spacing_of(affine, plan.dims)) / math.prod(spacing)
    if not resampled <= most:  # nor is it, where the header holds no number
        raise TooLarge(
            f"The image has {size} voxels, and about {resampled:,.0f} at the spacing of the model; "
            f"this server takes {most:,}.",
            hint=hint,
        )


def suffix_of(path: Path) -> str | None:
    """The suffix that an image of this content has; None if it is none of those that are named so.

    Raises:
        OSError: if it cannot be read.
    """
    head = _head(path)
    if is_plain_nifti(head) or head[:4] in (b"\0\0\1\x5c", b"\x5c\1\0\0"):
        return ".nii"
    if head.startswith(b"\x1f\x8b"):
        return ".nii.gz" if _holds_nifti(head) else None
    return next((suffix for start, suffix in _BEGINNINGS if head.startswith(start)), None)


def _shape(
    files: tuple[Path, ...],
) -> tuple[tuple[int, ...] | None, int | None, NDArray[np.float64] | None]:
    """Spatial shape, channels and affine, as far as the header tells quickly."""
    if image_suffix(files[0]) in _PICTURES:
        found = _picture(files[0]) if len(files) == 1 else None
        # Pages may be slices, or else: who reads them knows better.
        return (None if found is None or found[2] > 1 else found[:2]), None, None
    extent = peek(files)
    return (None, None, None) if extent is None else (extent.shape, extent.channels, extent.affine)


def _picture(path: Path) -> tuple[int, int, int] | None:
    """Width, height and pages from the header, the size of the first page; None if it has none.

    Pages of other sizes are refused where they are read.
    """
    from PIL import Image

    with _PILLOW:  # its limit is one for all threads
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            with Image.open(path) as picture:
                return *picture.size, int(getattr(picture, "n_frames", 1))
        except Exception:  # of a damaged file; who reads it says better what is wrong
            return None
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


def _holds_nifti(head: bytes) -> bool:
    try:
        inside = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 1024)
    except zlib.error:
        return True  # damaged: the reader says so
    return is_plain_nifti(inside) or inside[:4] in (b"\0\0\1\x5c", b"\x5c\1\0\0")


def _strange(files: list[Path]) -> str:
    if not files:
        return "The archive holds no file."
    found = describe(files[0])
    what = (
        "The upload is"
        if len(files) == 1
        else f"None of its {len(files)} files is an image; one is"
    )
    return f"{what} {found}." if found else f"{what} of no known format."


def _unpack(archive: Path, folder: Path, limits: Limits) -> None:
    """Write the members of a zip archive under names of our own, counting what comes out."""
    _check_directory(archive, limits.members)
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [member for member in packed.infolist() if _is_wanted(member)]
            if len(members) > limits.members:
                raise TooLarge(
                    f"The archive has {len(members):,} members; this server takes "
                    f"{limits.members:,}."
                )
            left = limits.inflated_bytes
            if sum(member.file_size for member in members) > left:
                raise _bomb(left)
            for number, member in enumerate(members, 1):
                left -= _extract(packed, member, folder / f"file_{number:05d}", left, limits)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise ImageError(
            "The archive is damaged, or packed in a way that cannot be read.",
            hint="Make it anew as a plain zip archive.",
        ) from error


def _check_directory(archive: Path, members: int) -> None:
    """Refuse a list of members that is too long, which zipfile would read into memory as a whole.

    It lies before the record of 22 bytes that ends the file (APPNOTE.TXT 4.3.16), whose bytes 12 to
    15 are its length; that record may be followed by a comment of 65,535 bytes at most.
    """
    with archive.open("rb") as file:
        file.seek(max(archive.stat().st_size - 2**16 - 64, 0))
        tail = file.read()
    place = tail.rfind(b"PK\5\6")
    length = int.from_bytes(tail[place + 12 : place + 16], "little")
    large = b"PK\6\7" in tail[max(place - 20, 0) : place]  # ZIP64: for archives beyond 4 GB
    if place < 0 or large or length > members * _MOST_ENTRY:
        raise TooLarge(
            f"The archive has a list of members that is too long; this server takes {members:,}."
        )


def _extract(
    packed: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, left: int, limits: Limits
) -> int:
    with packed.open(member) as stream, path.open("xb") as file:
        size = 0
        while block := stream.read(_CHUNK):
            size += len(block)
            if size > left:
                raise _bomb(limits.inflated_bytes)
            file.write(block)
    return size


def _is_wanted(member: zipfile.ZipInfo) -> bool:
    """Refuse what no honest archive of images has; pass over folders and what systems add."""
    name = member.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or (parts and ":" in parts[0]) or "\0" in name:
        raise ImageError(
            "The archive has a member whose name leads out of it.",
            hint="Make it anew from a folder of images.",
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise ImageError("The archive has a link; send the files themselves.")
    if member.flag_bits & 1:
        raise ImageError("The archive is encrypted; send it without a password.")
    return not member.is_dir() and not any(part in _PASSED_OVER for part in parts)


def _bomb(most: int) -> TooLarge:
    return TooLarge(
        f"The archive holds more than {most:,} bytes when it is unpacked.",
        hint="Send one series at a time.",
    )
