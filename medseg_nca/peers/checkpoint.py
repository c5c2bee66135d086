"""Read checkpoint files of unknown origin: tensors only, nothing in a file is executed."""

from __future__ import annotations

import hashlib
import io
import pickle  # its error alone
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medseg_nca.config.bounds import plain
from medseg_nca.errors import CheckpointError, ModelError
from medseg_nca.inference.strict_json import read_regular
from medseg_nca.inference.weights import header_of

# The published automata take kilobytes; this is what a file, and what it holds, may take at most.
MAX_BYTES = 2**28
MAX_TENSORS = 4096
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_GLOBAL = re.compile(r"GLOBAL (\S+)")
# What wrappers of torch put into the names: DataParallel and compile.
_WRAPPERS = ("module", "_orig_mod")
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class PeerFile:
    """The tensors of one file, in float32.

    Attributes:
        name: of the file, without its folder.
        sha256: of the file.
        tensors: by name, without what DataParallel and torch.compile add to the names.
    """

    name: str
    sha256: str
    tensors: Mapping[str, Tensor]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the tensors, by name."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def read_files(paths: Iterable[Path]) -> tuple[PeerFile, ...]:
    """Read state dicts, in the order of the paths.

    Raises:
        CheckpointError: naming the file: it cannot be read, is too large or damaged, holds Python
            objects besides tensors, numbers that are not finite, or is given twice.
    """
    files = tuple(_read(path) for path in paths)
    for index, file in enumerate(files):
        if file.sha256 in {other.sha256 for other in files[:index]}:
            raise CheckpointError(
                f"{file.name}: is given twice, or holds what another file holds.",
                hint="Give the file of each level once, coarse to fine.",
            )
    return files


def _read(path: Path) -> PeerFile:
    try:
        if path.stat().st_size > MAX_BYTES:  # before anything is read
            raise ValueError(f"is longer than {MAX_BYTES:,} bytes")
        content = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise CheckpointError(
            f"{path}: {error}; published automata take kilobytes.",
            hint="Give the file with the weights, such as model0.pth.",
        ) from error
    # A header of safetensors begins with its length in eight bytes, then with a brace.
    found = _safetensors(path, content) if content[8:9] == b"{" else _pickled(path, content)
    tensors = _checked(path, found)
    return PeerFile(plain(path.name), hashlib.sha256(content).hexdigest(), tensors)


def _safetensors(path: Path, content: bytes) -> Mapping[Any, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        header_of(io.BytesIO(content), len(content), path)
        return load(content)
    except ModelError as error:
        raise CheckpointError(error.message, hint=error.hint) from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged ({plain(str(error))}).") from error


def _pickled(path: Path, content: bytes) -> Mapping[Any, Any]:
    """Read what ``torch.save`` wrote; a pickle can name code, and torch refuses to run any."""
    try:
        if content.startswith(_ZIP):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > MAX_BYTES:
                raise CheckpointError(f"{path}: would become {unpacked:,} bytes in memory.")
        with warnings.catch_warnings(action="ignore"):
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # the parsers may raise anything for strange files
        named = _GLOBAL.search(str(error))
        if isinstance(error, pickle.UnpicklingError) and (named or content.startswith(_PICKLE)):
            what = f" ({plain(named[1])})" if named else ""
            raise CheckpointError(
                f"{path}: holds Python objects{what} and not tensors alone. Loading them could "
                "run any program, so that nothing of it was loaded.",
                hint="Save its weights alone with torch.save(model.state_dict(), FILE), in the "
                "environment that wrote it and only if you trust it.",
            ) from error
        raise CheckpointError(
            f"{path}: is damaged, or neither of torch.save nor safetensors.",
            hint="Give the file with the weights, such as model0.pth; copy it again if it is one.",
        ) from error
    if not isinstance(found, Mapping):
        raise CheckpointError(
            f"{path}: holds {_article(found)} and no state dict.",
            hint="Save it with torch.save(model.state_dict(), FILE).",
        )
    return found


def _article(value: Any) -> str:
    return "a tensor" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _checked(path: Path, found: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the tensors under plain names, after a look at everything that could be wrong."""
    if {"state", "param_groups"} <= set(found):
        raise CheckpointError(
            f"{path}: is the state of an optimiser.", hint="Give the model's file instead."
        )
    if not found:
        raise CheckpointError(f"{path}: holds no tensors.")
    if len(found) > MAX_TENSORS:
        raise CheckpointError(f"{path}: holds {len(found):,} entries; at most {MAX_TENSORS:,}.")
    tensors: dict[str, Tensor] = {}
    total = 0
    for key, value in found.items():
        shown = plain(str(key))
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: {shown} is {_article(value)}; a state dict holds named tensors alone.",
                hint="Save it with torch.save(model.state_dict(), FILE).",
            )
        name = ".".join(part for part in key.split(".") if part not in _WRAPPERS)
        if name.endswith(_COUNTER):
            continue  # how many batches were seen: no part of the computation
        if name in tensors:
            raise CheckpointError(f"{path}: {plain(name)} is there twice, also as {shown}.")
        if value.layout != torch.strided or value.dtype not in _EXACT:
            kind = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{path}: {shown} holds {kind}; float32, float16 and bfloat16 can be kept exactly."
            )
        # A tensor may claim more values than its storage has.
        total += value.numel() * 4
        if total > MAX_BYTES:
            raise CheckpointError(f"{path}: {shown} is too large: {list(value.shape)}.")
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"{path}: {shown} holds values that are NaN or infinite: the training diverged.",
                hint="Take the checkpoint of an earlier epoch.",
            )
        tensors[name] = value.detach().float().contiguous()
    return tensors


_EXACT = (torch.float32, torch.float16, torch.bfloat16)
