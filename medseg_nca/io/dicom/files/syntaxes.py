"""Transfer syntaxes: which can be decoded, by what, and how the others are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medseg_nca.io.dicom.problems import DicomError, refusal

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"


@dataclass(frozen=True)
class Syntax:
    """How a data set and its pixels are encoded (PS3.5 section 10 and annex A).

    Attributes:
        uid: TransferSyntaxUID.
        decoder: which of pydicom's plugins decodes the frames, ``libjpeg-turbo`` for our own;
            "" if they are native.
    """

    uid: str
    decoder: str = ""

    @property
    def encapsulated(self) -> bool:
        """Whether each frame is packed by itself."""
        return bool(self.decoder)

    @property
    def implicit(self) -> bool:
        """Whether elements carry no value representation."""
        return self.uid == IMPLICIT_LITTLE

    @property
    def little(self) -> bool:
        """Byte order."""
        return self.uid != EXPLICIT_BIG


# One decoder for each, so that a damaged frame fails instead of being tried on the next. None of
# them ends the process on damaged frames, as these do: GDCM (JPEG: an uncaught C++ exception),
# imagecodecs' RLE (a segmentation fault), pylibjpeg-rle (a panic that is no Exception).
_DECODERS: Mapping[str, str] = {
    IMPLICIT_LITTLE: "",
    EXPLICIT_LITTLE: "",
    DEFLATED: "",
    EXPLICIT_BIG: "",
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "libjpeg-turbo",  # JPEG extended, 8 and 12 bits
    "1.2.840.10008.1.2.4.57": "libjpeg-turbo",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "libjpeg-turbo",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81": "pyjpegls",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91": "pylibjpeg",  # JPEG 2000
    "1.2.840.10008.1.2.4.201": "pylibjpeg",  # HTJ2K lossless
    "1.2.840.10008.1.2.4.202": "pylibjpeg",  # HTJ2K lossless RPCL
    "1.2.840.10008.1.2.4.203": "pylibjpeg",  # HTJ2K
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
}
SYNTAXES: Mapping[str, Syntax] = {uid: Syntax(uid, name) for uid, name in _DECODERS.items()}

# Registered after the dictionary of the installed pydicom was written.
_LATER_NAMES = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}


def find_syntax(path: Path, uid: str) -> Syntax:
    """The syntax of a file.

    Raises:
        DicomError: ``unsupported-syntax``, with the name of the syntax.
    """
    syntax = SYNTAXES.get(uid)
    if syntax is None:
        raise _unsupported(path, uid)
    return syntax


def syntax_name(uid: str) -> str:
    """The name in the standard, or what can be said of a UID that is not there."""
    from pydicom.uid import UID

    name = _LATER_NAMES.get(uid) or UID(uid, validation_mode=0).name
    if name != uid:
        return str(name)
    if uid.startswith("1.2.840.10008."):
        return "a transfer syntax that this version does not know"
    return "a private transfer syntax"


def _unsupported(path: Path, uid: str) -> DicomError:
    shown = "".join(c for c in uid if c in "0123456789.")[:64]
    return refusal(
        "unsupported-syntax",
        path,
        f"is encoded as {syntax_name(shown)} ({shown}), which cannot be decoded.",
        hint="Export it as Explicit VR Little Endian, or convert it (dcmconv, gdcmconv --raw).",
    )
