"""A small answer that is stored with a model, by which another machine checks the model.

These functions are for tasks whose answers are real numbers. The numbers are stored as float16, and
the comparison allows for the rounding of other processors. Segmentation stores label maps instead.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ModelError
from medseg_nca.tasks.base import Agreement, TrainedModel

# Largest difference allowed, as a share of the largest value; other processors and torch versions
# differ far less.
TOLERANCE = 0.02
MAX_VALUES = 2**16
_TYPE = np.dtype("<f2")


def store_answer(answer: NDArray[Any], formula: str) -> dict[str, str]:
    """Return the entries of ``model.json`` that hold an answer.

    Args:
        answer: finite numbers of any shape, at most 65,536 of them.
        formula: name of what the input was made from.
    """
    if answer.size > MAX_VALUES:
        raise ValueError(f"{answer.size} values are too many to be stored")
    content = np.ascontiguousarray(answer.astype(_TYPE)).tobytes()
    return {
        "formula": formula,
        "shape": "x".join(map(str, answer.shape)),
        "values": base64.b64encode(zlib.compress(content, 9)).decode("ascii"),
    }


def compare_answer(answer: NDArray[Any], formula: str, model: TrainedModel) -> Agreement:
    """Compare an answer with the answer that is stored with the model.

    Args:
        answer: the model's answer now, of the same shape as in :func:`store_answer`.
        formula: name of what the input was made from.
        model: the model that has the stored answer.

    Raises:
        ModelError: if there is no stored answer, it belongs to another formula, or it is damaged.
    """
    stored = model.spec.reference
    where = model.folder / "model.json"
    if not stored:
        raise ModelError(
            f"{where}: holds no stored answer.",
            hint="Register the model with `medseg-nca models register`; that stores one.",
        )
    if stored.get("formula") != formula:
        raise ModelError(
            f"{where}: its stored answer is to {stored.get('formula')!r}; this package makes "
            f"{formula!r}.",
            hint="Use the medseg-nca version that registered the model.",
        )
    wanted = _decode(stored, answer.shape, str(where))
    found = answer.astype(_TYPE)
    if np.array_equal(found, wanted):
        return Agreement(True, True, "identical")
    scale = float(np.abs(wanted.astype(np.float64)).max()) or 1.0
    error = float(np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max()) / scale
    return Agreement(False, error <= TOLERANCE, f"differs by at most {error:.2%} of the range")


def _decode(stored: Mapping[str, str], shape: tuple[int, ...], where: str) -> NDArray[Any]:
    size = int(np.prod(shape)) * _TYPE.itemsize
    try:
        # At most the answer's size is unpacked, because the file may come from anywhere.
        raw = zlib.decompressobj().decompress(base64.b64decode(stored["values"]), size)
        return np.frombuffer(raw, _TYPE).reshape(shape)
    except (KeyError, ValueError, zlib.error) as error:
        raise ModelError(f"{where}: its stored answer is damaged ({error}).") from error
