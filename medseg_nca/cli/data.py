"""``medseg-nca data``: check, list, fetch and generate data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.next_step import free_folder, name_of, say_next
from medseg_nca.cli.options import FOLDER, SEED, json_option, print_json

if TYPE_CHECKING:
    from medseg_nca.pipelines.check_report import CheckReport

OUTPUT_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
LISTED = 3  # how many findings of one kind are shown


@click.group()
def data() -> None:
    """Check, list, fetch and generate data sets."""


@data.command(short_help="Validate every case of a data set.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--format", "layout", default="auto", show_default=True, help="Layout of the data.")
@click.option(
    "--json", "json_file", type=OUTPUT_FILE, help="Write the report as JSON; - is stdout."
)
@click.option("--table", "table_file", type=OUTPUT_FILE, help="Write a CSV line for each case.")
@click.option(
    "--workers", type=click.IntRange(min=0), help="Threads; one for each core if not given."
)
def check(
    folder: Path, layout: str, json_file: Path | None, table_file: Path | None, workers: int | None
) -> None:
    """Validate every case of the data set in DIR (or of a datalist file).

    The checks concern pairing, shapes, geometry, label values, NaN, empty labels, constant images,
    duplicates, and patients on two sides of a split. The exit code is 2 if anything must be
    corrected; warnings do not change it.
    """
    announce(f"Checking {folder}.")
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.errors import DataError
    from medseg_nca.pipelines import check as pipeline

    with ProgressBars(passing=("checking",)) as bars:
        report = pipeline.run(folder, layout, workers=workers, job=bars.job)
    if json_file == Path("-"):
        print_json(report.to_dict())
    else:
        _show(report)
        if json_file is not None:
            report.write_json(json_file)
    if table_file is not None:
        report.write_table(table_file)
    if report.errors:
        raise DataError(
            f"{folder}: {len(report.errors)} error(s) in {len(report.rows)} cases.",
            hint="Correct what is listed as an error and check again.",
        )
    options = [] if layout == "auto" else ["--set", f"data.format={layout}"]
    prepared = free_folder("prepared", name_of(folder))
    say_next("preprocess", *options, "--data", folder, "--out", prepared, err=True)


@data.command("list", short_help="List what can be fetched, and what can be read.")
@json_option
def list_data(as_json: bool) -> None:
    """List the data sets that can be fetched, and the layouts that can be read."""
    from medseg_nca.datasets.decathlon import SOURCES
    from medseg_nca.datasets.find import adapters

    formats = {name: adapter.layout for name, adapter in adapters().items()}
    if as_json:
        from dataclasses import asdict

        sources = [{**asdict(source), "url": source.url} for source in SOURCES.values()]
        print_json({"fetch": sources, "formats": formats})
        return
    table = _table("Fetch with `medseg-nca data fetch NAME`", "name", "what", "images")
    for column in ("cases", "size"):
        table.add_column(column, justify="right")
    for source in SOURCES.values():
        size = _size(source.megabytes * 10**6)
        table.add_row(source.name, source.about, source.modality, str(source.cases), size)
    licences = ", ".join(sorted({source.licence for source in SOURCES.values()}))
    table.caption = f"Licence: {licences}. Medical Segmentation Decathlon."
    _print(table)
    table = _table("Layouts", "name", "looks like")
    for name, text in formats.items():
        table.add_row(name, text)
    _print(table)


@data.command(short_help="Fetch a public data set.")
@click.argument("name")
@click.argument("out", type=FOLDER, default=Path("."))
@click.option(
    "--from", "source", metavar="URL|FILE", help="Take the archive from a mirror or a file."
)
@click.option(
    "--no-checksum", is_flag=True, help="Skip the checksum, for a mirror that packed the data anew."
)
@click.option("--keep", is_flag=True, help="Keep the downloaded archive.")
def fetch(name: str, out: Path, source: str | None, no_checksum: bool, keep: bool) -> None:
    """Fetch the data set NAME into the folder OUT/NAME (OUT is here if not given).

    A download that was interrupted goes on where it stopped. `medseg-nca data list` shows the
    names, the sizes and the licences.
    """
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.datasets.decathlon import find_source
    from medseg_nca.pipelines import fetch as pipeline

    found = find_source(name)
    click.echo(f"{found.name}: {found.about}; licence {found.licence}.", err=True)
    with ProgressBars(passing=("downloading", "verifying", "unpacking")) as bars:
        folder = pipeline.run(name, out, source, verify=not no_checksum, keep=keep, job=bars.job)
    click.echo(str(folder))
    say_next("data", "check", folder, err=True)


@data.command(short_help="Generate made-up patients.")
@click.argument("out", type=FOLDER)
@click.option("--cases", type=click.IntRange(min=1), default=24, show_default=True)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--kind",
    type=click.Choice(["organ", "depth", "distance"]),
    default="organ",
    show_default=True,
    help="Organs with label maps; or, for a regression, pictures with their depth, or volumes with "
    "distances.",
)
@click.option(
    "--dims", type=click.Choice(["2", "3"]), help="Axes of an organ's image.  [default: 3]"
)
@click.option("--size", metavar="XxYxZ", help="Approximate voxels per axis, for example 48x40x24.")
@click.option("--spacing", metavar="XxYxZ", help="Approximate millimetres per axis.")
def phantom(
    out: Path,
    cases: int,
    seed: int,
    kind: str,
    dims: str | None,
    size: str | None,
    spacing: str | None,
) -> None:
    """Generate a data set of made-up patients in the new folder OUT.

    Each image shows an organ of two touching parts with a lesion in it. It is warped at random,
    tilted, and has partial volume, a bias field and noise. Case i of a seed is always the same.
    """
    if kind != "organ" and (dims or spacing):
        raise click.UsageError(f"--dims and --spacing are for organs, not for --kind {kind}.")
    announce(f"Generating {cases} cases in {out}.")
    from medseg_nca.cli.progress import ProgressBars

    if kind != "organ":
        from medseg_nca.datasets.depth_phantom import write_depth_phantom

        with ProgressBars(passing=("generating",)) as bars:
            write_depth_phantom(
                out, cases, seed, 2 if kind == "depth" else 3,
                size=_numbers(size, int, "--size"), job=bars.job,
            )  # fmt: skip
        click.echo(str(out))
        return
    from medseg_nca.datasets.adapters.phantom import write_phantom

    with ProgressBars(passing=("generating",)) as bars:
        write_phantom(
            out,
            cases,
            seed,
            cast(Literal[2, 3], int(dims or 3)),
            size=_numbers(size, int, "--size"),
            spacing=_numbers(spacing, float, "--spacing"),
            job=bars.job,
        )
    click.echo(str(out))
    say_next("data", "check", out, err=True)


def _numbers(text: str | None, kind: Callable[[str], Any], option: str) -> tuple[Any, ...] | None:
    if text is None:
        return None
    try:
        return tuple(kind(part) for part in text.lower().replace(",", "x").split("x"))
    except ValueError:
        raise click.BadParameter(f"{text!r}: write it like 48x40x24.", param_hint=option) from None


def _show(report: CheckReport) -> None:
    """Print the data set in a few lines, and a table of the findings."""
    dataset = report.dataset
    table = _table(f"{dataset.name} ({dataset.format}, {dataset.dims}D)", show_header=False)
    for row in _summary(report):
        table.add_row(*row)
    _print(table)
    if report.findings:
        table = _table("Findings", "level", "kind", "count", "for example")
        for (level, code), group in report.by_kind().items():
            shown = "\n".join(finding.message for finding in group[:LISTED])
            colour = "red" if level == "error" else "yellow"
            table.add_row(f"[{colour}]{level}[/]", code, str(len(group)), _plain(shown))
        _print(table)
    click.echo(f"{len(report.errors)} error(s), {len(report.warnings)} warning(s).")


def _summary(report: CheckReport) -> Iterator[tuple[str, str]]:
    dataset = report.dataset
    yield "cases", f"{len(dataset.cases)}, {len(dataset.labelled)} with a label map"
    yield "channels", _plain(f"{', '.join(dataset.channels)} ({dataset.modality})")
    shapes = [row.shape for row in report.rows if row.shape]
    if shapes:
        yield "sizes", _range(shapes, "{:d}")
    spacings = [row.spacing for row in report.rows if row.spacing]
    if spacings:
        yield "spacing, mm", _range(spacings, "{:.3g}")
    names = report.label_names()
    for value, (cases, voxels) in report.label_statistics().items():
        text = f"{names.get(value, 'without a name')}: in {cases} cases, {voxels:,} voxels"
        yield f"label {value}", _plain(text)


def _range(rows: list[Any], form: str) -> str:
    """Return the smallest and the largest values, axis by axis, as text."""
    axes = list(zip(*rows, strict=False))
    low, high = (" x ".join(form.format(pick(axis)) for axis in axes) for pick in (min, max))
    return low if low == high else f"{low} to {high}"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _table(title: str, *columns: str, show_header: bool = True) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=show_header)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0)
    return table


def _print(table: Any) -> None:
    from medseg_nca.cli.console import print_table

    print_table(table)


def _plain(text: str) -> str:
    """Escape brackets, for example in a file's name, which rich would take for markup."""
    from rich.markup import escape

    return escape(text)
