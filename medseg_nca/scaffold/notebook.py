"""Notebooks from plain Python: templates of notebooks are written as scripts with marked cells."""

from __future__ import annotations

import json
from typing import Any

MARK = "# %%"
MARKDOWN = "[markdown]"


def notebook_of(script: str) -> str:
    """Return the text of a notebook (nbformat 4.5).

    Args:
        script: Python. A line ``# %%`` begins a cell of code, ``# %% [markdown]`` one of text,
            whose lines are comments. What comes before the first mark is left out.
    """
    cells: list[dict[str, Any]] = []
    for part in f"\n{script}".split(f"\n{MARK}")[1:]:
        kind, _, body = part.partition("\n")
        lines = body.strip("\n").splitlines(keepends=True)
        cell: dict[str, Any] = {"cell_type": "code", "id": f"cell-{len(cells)}", "metadata": {}}
        if kind.strip() == MARKDOWN:
            cell["cell_type"] = "markdown"
            lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
        else:
            cell |= {"execution_count": None, "outputs": []}
        cells.append({**cell, "source": lines})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    tree = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"
