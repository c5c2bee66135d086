"""A small array that is stored with a model, by which another machine recognises its answers.

Segmentation stores label maps of its own; tasks whose answers are real
numbers store them as float16, and allow for the rounding of other processors.
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

# Of the largest value of the array; other processors and torch versions stay far below it.
TOLERANCE = 0.02
MAX_VALUES = 2**16
_TYPE = np.dtype("<f2")


def store_answer(answer: NDArray[Any], formula: str) -> dict[str, str]:
    """Return what ``model.json`` keeps of an answer.

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
    """Compare an answer with the one that is stored with its model.

    Args:
        answer: as it was given to :func:`store_answer`.
        formula: name of what the input was made from.
        model: that carries the stored answer.

    Raises:
        ModelError: if nothing is stored, it belongs to another formula, or it is damaged.
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
        # Never more than the answer needs: the file may come from anywhere.
        raw = zlib.decompressobj().decompress(base64.b64decode(stored["values"]), size)
        return np.frombuffer(raw, _TYPE).reshape(shape)
    except (KeyError, ValueError, zlib.error) as error:
        raise ModelError(f"{where}: its stored answer is damaged ({error}).") from error
