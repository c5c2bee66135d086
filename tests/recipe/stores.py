"""Prepared data sets that exist in words only: what the recipe looks at, without an array."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg_nca.config import Label, LabelTable, PreprocessPlan
from medseg_nca.datasets.prepared import PreparedCase, PreparedIndex, PreparedStore
from medseg_nca.datasets.splits import Split


def case(
    name: str, centres: dict[str, tuple[float, ...]], shape: Sequence[int], suffix: str = ".nii.gz"
) -> PreparedCase:
    """A case with labels of ten voxels each."""
    return PreparedCase(
        id=name, images=(Path(f"/data/{name}{suffix}"),), label=Path(f"/data/{name}_label{suffix}"),
        shape=tuple(shape), foreground=dict.fromkeys(centres, 10), centres=centres, key="",
    )  # fmt: skip


def store(cases: Sequence[PreparedCase], labels: Sequence[str], **plan: Any) -> PreparedStore:
    """A data set of these cases; its plan is that of grey volumes unless said otherwise."""
    size = cases[0].shape
    known = {
        "dims": len(size), "channels": ("image",), "crop_size": size, "spacing": (1.0,) * len(size),
        "scales": ((2,) * len(size), (1,) * len(size)),
    }  # fmt: skip
    table = LabelTable(labels=tuple(Label(name=n, values=(i,)) for i, n in enumerate(labels, 1)))
    index = PreparedIndex(
        package_version="0", name="made up", modality="MRI", dataset_hash="", labels=table,
        cases=tuple(cases),
    )  # fmt: skip
    return PreparedStore(Path("/nowhere"), index, PreprocessPlan(**{**known, **plan}))


def split_of(cases: Sequence[PreparedCase], val: int = 0) -> Split:
    """The last ``val`` cases validate, the others train."""
    ids = sorted(c.id for c in cases)
    return Split(train=tuple(ids[: len(ids) - val]), val=tuple(ids[len(ids) - val :]))
