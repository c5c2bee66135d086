"""A command: count the cases of a data set."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def count(folder: Path) -> None:
    """Print how many cases FOLDER has, in any layout."""
    from medseg_nca.datasets.find import open_dataset

    dataset = open_dataset(folder)
    click.echo(f"{dataset.format}: {len(dataset.cases)} cases")
