"""A small answer that is stored with a model, by which another machine checks the model.

Tasks whose answers are real numbers use :func:`store_answer` and :func:`compare_answer`. The
numbers are stored as float16, and the comparison allows for the rounding of other processors.
Segmentation stores label maps instead.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ModelError
from medseg_nca.inference.spec import SPEC
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
    kept = answer.astype(_TYPE)
    return {
        "formula": formula,
        "shape": "x".join(map(str, answer.shape)),
        "values": packed(kept),
    }


def packed(array: NDArray[Any]) -> str:
    """Return the content of an array as a short text."""
    content = np.ascontiguousarray(array).tobytes()
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def stored_for(
    model: TrainedModel, key: str, formula: str, what: str = "answer"
) -> Mapping[str, str]:
    """Return the answer that is stored with a model, still packed.

    Args:
        model: the model.
        key: the entry that names the formula.
        formula: name of what the input was made from.
        what: what messages call the answer.

    Raises:
        ModelError: if there is no stored answer, or it belongs to another formula.
    """
    stored, where = model.spec.reference, model.folder / SPEC
    if not stored:
        raise ModelError(
            f"{where}: holds no stored {what}.",
            hint="Register the model with `medseg-nca models register`; that stores one.",
        )
    if stored.get(key) != formula:
        raise ModelError(
            f"{where}: its stored {what} belongs to {stored.get(key)!r}; this package makes "
            f"{formula!r}.",
            hint="Use the medseg-nca version that registered the model.",
        )
    return stored


def unpacked(
    stored: Mapping[str, str], key: str, like: NDArray[Any], model: TrainedModel,
    what: str = "answer",
) -> NDArray[Any]:  # fmt: skip
    """Return the stored array of an entry, which has the shape and type of another array.

    Raises:
        ModelError: if the entry is missing or damaged.
    """
    try:
        # At most the array's size is unpacked, because the file may come from anywhere.
        raw = zlib.decompressobj().decompress(base64.b64decode(stored[key]), like.nbytes)
        return np.frombuffer(raw, like.dtype).reshape(like.shape)
    except (KeyError, ValueError, zlib.error) as error:
        where = model.folder / SPEC
        raise ModelError(f"{where}: its stored {what} is damaged ({error}).") from error


def compare_answer(answer: NDArray[Any], formula: str, model: TrainedModel) -> Agreement:
    """Compare an answer with the answer that is stored with the model.

    Args:
        answer: the model's answer now, of the same shape as in :func:`store_answer`.
        formula: name of what the input was made from.
        model: the model that has the stored answer.

    Raises:
        ModelError: if there is no stored answer, it belongs to another formula, or it is damaged.
    """
    stored = stored_for(model, "formula", formula)
    found = answer.astype(_TYPE)
    wanted = unpacked(stored, "values", found, model)
    if np.array_equal(found, wanted):
        return Agreement(True, True, "identical")
    scale = float(np.abs(wanted.astype(np.float64)).max()) or 1.0
    error = float(np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max()) / scale
    return Agreement(False, error <= TOLERANCE, f"differs by at most {error:.2%} of the range")
