"""What the agents of Med-NCA and M3D-NCA have in common: files of levels and ``config.dt``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medseg_nca.errors import CheckpointError, ModelError
from medseg_nca.peers.answers import PeerAnswers, turned
from medseg_nca.peers.automaton import entry, named
from medseg_nca.peers.cells import Level
from medseg_nca.peers.checkpoint import PeerFile


def level_files(files: Sequence[PeerFile], prefixes: Sequence[str]) -> list[Level] | None:
    """Split the one file of a module that holds all levels; None if the files are no such thing.

    Args:
        files: the checkpoint.
        prefixes: of the names of each level, coarse to fine.

    Raises:
        CheckpointError: if there is another file beside it, or a level is missing.
    """
    if not any(name.startswith(tuple(prefixes)) for file in files for name in file.tensors):
        return None
    if len(files) > 1:
        raise CheckpointError(
            f"{files[0].name}: holds all levels of a model, and {len(files) - 1} more files are "
            "given.",
            hint="Give this file alone.",
        )
    return split_levels(files[0], prefixes)


def split_levels(file: PeerFile, prefixes: Sequence[str]) -> list[Level]:
    """Give each level the tensors that its prefix names.

    Raises:
        CheckpointError: if a level has no tensors, or a tensor has no level.
    """
    parts: dict[str, dict[str, Any]] = {prefix: {} for prefix in prefixes}
    for name, tensor in file.tensors.items():
        prefix = next((p for p in prefixes if name.startswith(p)), None)
        if prefix is None:
            raise CheckpointError(f"{file.name}: {name} belongs to no level.")
        parts[prefix][name.removeprefix(prefix)] = tensor
    empty = [prefix.rstrip(".") for prefix, part in parts.items() if not part]
    if empty:
        raise CheckpointError(f"{file.name}: lacks the level {', '.join(empty)}.")
    return [Level(f"{file.name}, {prefix.rstrip('.')}", part) for prefix, part in parts.items()]


def read_agent_config(tree: Any, axes: str | None, dims: int) -> PeerAnswers:
    """Read ``config.dt``: a JSON list of settings, each of which replaces those before it.

    Raises:
        ModelError: if it is no such list, or a value cannot be used.
    """
    parts = tree if isinstance(tree, list) else [tree]
    if not parts or not all(isinstance(part, Mapping) for part in parts):
        raise ModelError("--settings: a list of settings is needed, as config.dt holds it.")
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= part
    steps = entry(merged, "inference_steps", (int, list))
    if steps is not None:
        steps = tuple(steps) if isinstance(steps, list) else (steps,)
        if any(type(n) is not int or n < 1 for n in steps):
            raise ModelError(f"--settings: inference_steps is {steps}; whole numbers are needed.")
    size = entry(merged, "input_size", list)
    rate = entry(merged, "cell_fire_rate", (int, float))
    factor = entry(merged, "scale_factor", int)
    levels = entry(merged, "train_model", int)
    return PeerAnswers(
        channels=named("image", entry(merged, "input_channels", int)),
        labels=named("label", entry(merged, "output_channels", int)),
        steps=steps,
        fire_rate=None if not isinstance(rate, int | float) else float(rate),
        scales=_scales(factor, levels) if dims == 3 else None,
        size=_size(size, axes, dims),
    )


def _scales(factor: object, last: object) -> tuple[tuple[int, ...], ...] | None:
    if not isinstance(factor, int) or not isinstance(last, int):
        return None
    if factor < 1 or not 0 <= last < 16 or factor**last > 2**15:
        raise ModelError(f"--settings: scale_factor {factor} of {last + 1} levels is too large.")
    return tuple((factor**level,) for level in range(last, -1, -1))


def _size(value: object, axes: str | None, dims: int) -> tuple[int, ...] | None:
    """The size of the finest level: the last of a list, or the only one."""
    if not isinstance(value, list) or not value:
        return None
    last = value[-1] if isinstance(value[-1], list) else value
    try:
        return turned(last[:dims], axes, dims)
    except ValueError as error:
        raise ModelError(f"--settings: input_size: {error}.") from error
