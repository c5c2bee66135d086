"""Print the results of the DICOM commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from medseg_nca.cli.console import print_table
from medseg_nca.cli.next_step import free_folder, name_of, say_next

if TYPE_CHECKING:
    from medseg_nca.io.dicom.check.run import CheckResult
    from medseg_nca.pipelines.dicom_fetch import FetchReport, Listing
    from medseg_nca.pipelines.dicom_report import ImportReport

SHOWN = 20
# The columns of a listing that the archive answers.
_LISTED = ("PatientID", "StudyDate", "SeriesNumber", "Modality", "SeriesDescription")


def show_scan(tree: dict[str, Any]) -> None:
    """Print a row for each series, and below the table problems and assumptions."""
    table = Table(title="Series", title_justify="left")
    for name in ("patient", "study", "no.", "kind", "description", "files", "volumes", "problem"):
        table.add_column(name, justify="right" if name in {"no.", "files"} else "left")
    problems = []
    notes = []
    for patient in tree["patients"]:
        for study in patient["studies"]:
            for series in study["series"]:
                table.add_row(*(escape(_visible(text)) for text in _row(patient, study, series)))
                where = series["folder"] or series["uid"]
                problems += [(where, one) for one in series["problems"]]
                notes += [(where, one) for one in series["notes"]]
    print_table(table)
    for where, one in [*problems, *(("", one) for one in tree["unreadable"])]:
        click.echo(_visible(f"{one['kind']}: {_placed(where, one['message'])}"))
    for where, one in notes:
        click.echo(_visible(f"note {one['kind']}: {_placed(where, one['message'])}"))
    passed = ", ".join(f"{count} {reason}" for reason, count in sorted(tree["passed_over"].items()))
    counts = tree["counts"]
    click.echo(
        f"{counts['patients']} patient(s), {counts['studies']} studies, {counts['series']} series, "
        f"{counts['volumes']} volumes, {counts['problems']} problem(s)."
        + (f" Passed over: {passed}." if passed else "")
    )


def _row(patient: dict[str, Any], study: dict[str, Any], series: dict[str, Any]) -> list[str]:
    kind = series["kind"] if series["kind"] != "image" else series["modality"]
    return [
        patient["id"] or "-",
        study["date"] or study["uid"][-8:],
        series["number"] or "-",
        kind,
        series["description"] or "-",
        str(series["files"]),
        "\n".join(_volume(stack) for stack in series["stacks"]) or "-",
        "\n".join(one["kind"] for one in series["problems"]) or "-",
    ]


def _placed(where: str, message: str) -> str:
    return f"{where}: {message}" if where and where not in message else message


def _visible(text: str) -> str:
    """Return text from a file, or its name, without the control characters of terminals."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _volume(stack: dict[str, Any]) -> str:
    size = "x".join(map(str, stack["shape"]))
    spacing = "x".join(f"{step:.3g}" for step in stack["spacing"])
    tilt = f" tilt {stack['shear_mm']:.3g} mm" if stack["shear_mm"] else ""
    name = f"{stack['name']}: " if stack["name"] else ""
    return f"{name}{size}, {spacing} mm, {stack['orientation']}{tilt}"


def show_import(report: ImportReport) -> None:
    """Print the imported data set in a few lines."""
    maps = report.maps
    labelled = sum(one.own is not None for _, one in maps)
    patients = len({record.patient for record in report.records})
    click.echo(
        f"{report.out}: {len(maps)} cases of {patients} patient(s), {labelled} with a label map"
        + (f"; {report.cached} volumes were there already." if report.cached else ".")
    )
    if report.labels is not None:
        names = report.labels.names
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        click.echo(f"Labels: {', '.join(names[:SHOWN])}{more}.")
    if report.left_out:
        texts = (f"{count} {reason}" for reason, count in sorted(report.left_out.items()))
        click.echo(f"Left out: {', '.join(texts)}.")
    if maps:
        say_next("data", "check", report.out, err=True)


def show_checks(results: Sequence[CheckResult]) -> None:
    """Print a row for each finding, with the files that have it.

    The slices of a series mostly have the same findings.
    """
    files: dict[tuple[str, str, str], list[str]] = {}
    for result in results:
        for finding in result.findings:
            key = (finding.severity, finding.source, finding.message)
            files.setdefault(key, []).append(str(result.path))
    table = Table(title="DICOM check", title_justify="left")
    for name in ("level", "by", "finding", "files"):
        table.add_column(name, overflow="fold")
    for (severity, source, message), paths in sorted(files.items()):
        colour = "red" if severity == "error" else "yellow"
        more = f"\nand {len(paths) - 1} more" if len(paths) > 1 else ""
        row = (f"[{colour}]{severity}[/]", source, escape(message), escape(paths[0]) + more)
        table.add_row(*row)
    if table.row_count:
        print_table(table)
    errors = sum(len(result.errors) for result in results)
    warnings = sum(len(result.warnings) for result in results)
    click.echo(f"{len(results)} file(s), {errors} error(s), {warnings} warning(s).")


def show_listing(listing: Listing, limit: int) -> None:
    """Print a row for each series that an archive has."""
    table = Table(title="Selected series", title_justify="left")
    for name in ("patient", "study", "no.", "kind", "description", "instances"):
        table.add_column(name, justify="right" if name in {"no.", "instances"} else "left")
    for one in listing.series:
        row = [one.tags.get(name, "") or "-" for name in _LISTED]
        row[1] = row[1] if row[1] != "-" else one.study_uid[-8:]
        row.append("?" if one.instances is None else str(one.instances))
        table.add_row(*(escape(_visible(text)) for text in row))
    if listing.series:
        print_table(table)
    count = "an unknown number of" if listing.instances is None else f"{listing.instances:,}"
    click.echo(f"{len(listing.series)} series with {count} instances are selected.")
    if listing.undecided.conditions:
        words = ", ".join(dict.fromkeys(c.keyword for c in listing.undecided.conditions))
        click.echo(f"The archive does not tell {words}: the headers decide after the fetch.")
    if len(listing.series) > limit:
        click.echo(f"--limit allows {limit}: they are fetched with --limit {len(listing.series)}.")


def show_fetch(report: FetchReport) -> None:
    """Print what became of the series, and what can be done with them."""
    more = f", {report.there} were there already" if report.there else ""
    more += f", {report.not_selected} given up by their headers" if report.not_selected else ""
    more += f", {len(report.failed)} failed" if report.failed else ""
    click.echo(
        f"{report.out}: {len(report.fetched)} series fetched ({report.files} files, "
        f"{report.bytes / 1e6:,.1f} MB){more}."
    )
    if report.fetched or report.there:
        data = free_folder(str(report.out.parent), f"{name_of(report.out)}_dataset")
        say_next("dicom", "import", report.out, "--out", data, err=True)
