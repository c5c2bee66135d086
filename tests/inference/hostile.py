"""A program for test_hostile_models: every hostile value in every field of a model.json.

All in one process, whose memory is limited. It prints one line of JSON: how many files were tried,
what was refused and how, and what went wrong.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from medseg_nca.errors import MedsegError
from medseg_nca.inference.bundle import SPEC, load_bundle
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.volume import Volume

# Beyond what the process has taken once a model was loaded and run.
MORE_MEMORY = 512 * 2**20
SECONDS = 5.0
PREFIX = "@@"  # where a string begins with it, the rest is JSON as it is to stand in the file
NESTED: Any = "@@" + "[" * 5000 + "]" * 5000
VALUES: dict[str, Any] = {
    "0": 0, "-1": -1, "1e9": 10**9, "1e30": 10**30, "2**63": 2**63, "0.5": 0.5, "1e300": 1e300,
    "1e400": "@@1e400", "10**5000": "@@1" + "0" * 5000, "NaN": "@@NaN", "inf": "@@Infinity",
    "-inf": "@@-Infinity", "empty": "", "null": None, "list": [], "dict": {}, "true": True,
    "false": False, "nested": NESTED, "list of lists": [[[[1]]]], "many": [1] * 10_000,
    "numbers": [10**9] * 3, "digits": "16", "NUL": "a\0b", "surrogate": "@@\"\\ud800\"",
    "escape": "\x1b[31mred\n", "unicode": "脳" * 1000, "twice": '@@{"a": 1, "a": 2}',
}  # fmt: skip


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value of a tree, the inner ones too; of a list the first two."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:2])
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def with_value(tree: Any, path: tuple[Any, ...], value: Any) -> str:
    """The text of the tree with another value in one place."""
    changed = copy.deepcopy(tree)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    raw = isinstance(value, str) and value.startswith(PREFIX)
    inner[path[-1]] = "RAW" if raw else value
    text = json.dumps(changed)
    return text.replace('"RAW"', value.removeprefix(PREFIX)) if raw else text


def attempt(folder: Path, volume: Volume) -> str | None:
    """What the refusal says; None where the model runs and gives a label map on the grid."""
    try:
        result = Predictor(load_bundle(folder, "cpu")).predict(volume)
    except MedsegError as error:
        message = str(error)
        if error.exit_code == 2 and message.isprintable() and len(message) < 3000:
            return message
        raise RuntimeError(f"refused by {message!r}") from error
    assert result.label_map.shape == volume.shape
    return None


def main(*folders: Path) -> None:
    """Try all values in the model.json of the first folder, and in the models of the others."""
    originals = [(folder, json.loads((folder / SPEC).read_text())) for folder in folders]
    image = np.random.default_rng(0).normal(size=(1, 9, 10, 8)).astype(np.float32)
    volume = Volume(image, np.diag([1.0, 1.0, 1.0, 1.0]))
    for folder, tree in originals:  # what is imported by and by is imported before the limit
        for spacing in ([2.0] * 3, [1.0] * 3):
            (folder / SPEC).write_text(with_value(tree, ("plan", "spacing"), spacing))
            refusal = attempt(folder, volume)
            assert refusal is None, refusal
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MORE_MEMORY, resource.RLIM_INFINITY))
    tried, refused, faults = 0, {}, []
    for folder, tree in originals:
        parts = [
            path
            for path in places(tree)
            if folder is folders[0] or path[0] in {"model", "members", "format_version"}
        ]
        for path, name in product(parts, VALUES):
            tried += 1
            where = f"{folder.name}: {'.'.join(map(str, path))} = {name}"
            (folder / SPEC).write_text(with_value(tree, path, VALUES[name]))
            start = time.process_time()
            try:
                message = attempt(folder, volume)
            except BaseException as error:
                faults.append(f"{where}: {type(error).__name__}: {str(error)[:200]}")
                continue
            if message is not None:
                refused[where] = message
            if time.process_time() - start > SECONDS:
                faults.append(f"{where}: took {time.process_time() - start:.1f} s")
    print(json.dumps({"tried": tried, "refused": refused, "faults": faults}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
