"""``medseg-nca dicom``: scan, import, de-identify, check and write DICOM files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.dicom_echo import echo
from medseg_nca.cli.dicom_import import deidentify, import_
from medseg_nca.cli.next_step import say_next
from medseg_nca.cli.options import EXISTING, json_option, out_option, print_json
from medseg_nca.errors import DataError

NO_DICOM = 2
FAILED = 3


@click.group()
def dicom() -> None:
    """Scan DICOM folders, import them as data sets, de-identify, check and write files."""


dicom.add_command(import_)
dicom.add_command(deidentify)
dicom.add_command(echo)


@dicom.command(short_help="List the patients, studies, series and volumes of a folder.")
@click.argument("folder", metavar="DIR", type=EXISTING)
@click.option("--hash-ids", is_flag=True, help="Show pseudonyms, and no text that people typed.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, help="Number of processes that read."
)
@json_option
@click.pass_context
def scan(ctx: click.Context, folder: Path, hash_ids: bool, workers: int, as_json: bool) -> None:
    """List the patients, studies, series, volumes with their geometry, and problems in DIR.

    Files need no extension. The exit code is 2 if there is no DICOM file; problems do not change
    it.
    """
    announce("Scanning a DICOM folder.")
    from medseg_nca.cli.dicom_show import show_scan
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms, find_key
    from medseg_nca.pipelines import dicom_scan

    hide = (find_key(None) or Pseudonyms.random()) if hash_ids else None
    with ProgressBars(passing=("scanning",)) as bars:
        tree = dicom_scan.run(folder, hide=hide, workers=workers, job=bars.job)
    if as_json:
        print_json(tree)
    else:
        show_scan(tree)
    if not tree["patients"] and not tree["unreadable"]:
        click.secho(f"Error: {folder}: holds no DICOM file.", fg="red", err=True)
        ctx.exit(NO_DICOM)


@dicom.command(short_help="Check DICOM files by the standard's rules.")
@click.argument("files", nargs=-1, required=True, type=EXISTING)
@json_option
@click.pass_context
def check(ctx: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """Check FILES, or all files of folders, by our own rules and by dciodvfy where it is installed.

    Files that refer to each other (a SEG and its images) must agree. The exit code is 3 if a file
    has an error, and 2 if there is no file; warnings do not change it.
    """
    announce("Checking DICOM files.")
    from medseg_nca.cli.dicom_show import show_checks
    from medseg_nca.io.dicom.check.run import check_files, dciodvfy_path

    found = [file for path in files for file in _files(path)]
    if not found:
        raise DataError(f"{files[0]}: holds no DICOM file.", hint="Name DICOM files, or a folder.")
    results = check_files(found)
    if as_json:
        print_json({"dciodvfy": dciodvfy_path(), "files": [_result(one) for one in results]})
    else:
        show_checks(results)
        if dciodvfy_path() is None:
            click.echo("dciodvfy is not installed (Debian: apt-get install dicom3tools).", err=True)
    if any(one.errors for one in results):
        ctx.exit(FAILED)


@dicom.command(short_help="Write an image of another format as a DICOM series.")
@click.argument("image", type=EXISTING)
@out_option("Folder for the files; new or empty.")
@click.option("--modality", type=click.Choice(["MR", "CT"]), default="MR", show_default=True)
@click.option(
    "--patient-id", default="SYNTHETIC", show_default=True, help="Id of the made-up patient."
)
@click.option("--description", default="", help="SeriesDescription.")
@click.option("--seed", help="A text that decides the UIDs; without it all UIDs are new.")
@json_option
def write(
    image: Path,
    out: Path,
    modality: Any,
    patient_id: str,
    description: str,
    seed: str | None,
    as_json: bool,
) -> None:
    """Write IMAGE (NIfTI, NRRD, MHA, PNG, TIFF) as a DICOM series, one file for each slice."""
    announce(f"Writing {image} as a DICOM series.")
    from medseg_nca.io.dicom.objects.export import write_series
    from medseg_nca.io.read import read_volume

    files = write_series(
        read_volume(image, allow_4d=False),
        out,
        modality=modality,
        patient_id=patient_id,
        description=description,
        seed=seed,
    )
    if as_json:
        print_json({"folder": str(out), "files": [str(file) for file in files]})
    else:
        click.echo(f"{out}: {len(files)} files.")
        say_next("dicom", "scan", out, err=True)


def _files(path: Path) -> list[Path]:
    """Return the file itself, or the DICOM files below a folder."""
    if not path.is_dir():
        return [path]
    from medseg_nca.io.dicom.files.reader import looks_like_dicom
    from medseg_nca.io.dicom.files.walk import walk

    return [file for file in walk(path).files if looks_like_dicom(file)]


def _result(result: Any) -> dict[str, Any]:
    return {
        "file": str(result.path),
        "kind": result.kind,
        "tools": list(result.tools),
        "errors": [_finding(finding) for finding in result.errors],
        "warnings": [_finding(finding) for finding in result.warnings],
    }


def _finding(finding: Any) -> dict[str, str]:
    return {"tool": finding.source, "message": finding.message}
