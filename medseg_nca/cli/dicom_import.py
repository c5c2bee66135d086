"""``medseg-nca dicom import`` and ``medseg-nca dicom deidentify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import (
    EXISTING,
    check_workers,
    json_option,
    keeping_cases,
    out_option,
    print_json,
    scheduler_option,
    workers_option,
)

key_option = click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the secret of the pseudonyms (mode 0600), created if it does not exist. "
    "Without it, the variable MEDSEG_NCA_DEID_KEY is the secret, or else it is random.",
)
keep_key_option = click.option(
    "--keep-key", is_flag=True, help="Keep a random secret beside the results."
)
burned_in_option = click.option(
    "--allow-burned-in", is_flag=True, help="Accept images that may have writing in their pixels."
)


@click.command("import", short_help="Import a folder as a data set with label maps.")
@click.argument("folder", metavar="DIR", type=EXISTING)
@out_option("Folder of the new data set.")
@click.option(
    "--labels",
    type=click.Choice(["auto", "SEG", "RTSTRUCT", "none"], case_sensitive=False),
    default="auto",
    show_default=True,
    help="Where label maps come from; auto takes SEG before RTSTRUCT.",
)
@click.option(
    "--select",
    metavar="CONDITIONS",
    help="Which series, for example 'Modality=MR,SeriesDescription~T1,Slices>20'.",
)
@click.option(
    "--overlap",
    type=click.Choice(["last", "smallest", "refuse"]),
    default="last",
    show_default=True,
    help="Which of several overlapping segments gets a voxel.",
)
@click.option(
    "--tilt",
    type=click.Choice(["resample", "refuse"]),
    default="resample",
    show_default=True,
    help="What to do with volumes of a tilted gantry.",
)
@click.option("--deidentify", is_flag=True, help="Remove names and identifiers of patients.")
@key_option
@keep_key_option
@burned_in_option
@workers_option
@scheduler_option
@json_option
def import_(
    folder: Path,
    out: Path,
    labels: str,
    select: str | None,
    overlap: Any,
    tilt: Any,
    deidentify: bool,
    key_file: Path | None,
    keep_key: bool,
    allow_burned_in: bool,
    workers: int | None,
    scheduler: str | None,
    as_json: bool,
) -> None:
    """Import the series in DIR as a data set in the Decathlon's layout, NIfTI with label maps.

    Label maps come from the SEG and RTSTRUCT objects that refer to a series. After an interruption
    the same command goes on. The exit code is 3 if something could not be imported, and 2 if
    nothing could.
    """
    check_workers(workers, scheduler)
    _check_key_options(deidentify, key_file, keep_key)
    announce(f"Importing a DICOM folder as the data set {out}.")
    from medseg_nca.cli.dicom_show import show_import
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.pipelines import dicom_import as pipeline

    settings = pipeline.ImportSettings(
        labels=labels.lower(),  # type: ignore[arg-type]
        select=select,
        overlap=overlap,
        tilt=tilt,
        deidentify=deidentify,
        key=_key(key_file) if deidentify else None,
        keep_key=keep_key,
        allow_burned_in=allow_burned_in,
    )
    request = pipeline.ImportRequest(folder, out, settings, workers, scheduler)
    with keeping_cases(), ProgressBars(passing=("scanning", "headers")) as bars:
        report = pipeline.run(request, bars.job)
    if as_json:
        print_json(report.to_dict())
    else:
        show_import(report)
    _fail(len(report.records), len(report.refused), folder, out, report.refused)


@click.command(short_help="Write de-identified copies of DICOM files.")
@click.argument("folder", metavar="DIR", type=EXISTING)
@out_option("New folder for the copies, outside of DIR.")
@click.option(
    "--dates",
    type=click.Choice(["remove", "shift"]),
    default="remove",
    show_default=True,
    help="Remove dates and times, or move all dates of a patient by the same number of days.",
)
@click.option(
    "--keep-labels", is_flag=True, help="Keep the names of regions, unless they name a patient."
)
@key_option
@keep_key_option
@burned_in_option
@workers_option
@scheduler_option
@json_option
def deidentify(
    folder: Path,
    out: Path,
    dates: Any,
    keep_labels: bool,
    key_file: Path | None,
    keep_key: bool,
    allow_burned_in: bool,
    workers: int | None,
    scheduler: str | None,
    as_json: bool,
) -> None:
    """De-identify the DICOM files in DIR by the basic profile of PS3.15, with new UIDs and names.

    A UID is replaced by the same new UID in all files, so that they still refer to each other. The
    exit code is 3 if a file was refused, and 2 if all files were. After an interruption the same
    command goes on, and copies only files that are missing or have changed.
    """
    check_workers(workers, scheduler)
    announce(f"Writing de-identified copies to {out}.")
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.io.dicom.deid.deidentify import Deidentifier
    from medseg_nca.pipelines import dicom_deidentify as pipeline

    how = Deidentifier(dates=dates, keep_labels=keep_labels, allow_burned_in=allow_burned_in)
    request = pipeline.DeidentifyRequest(
        folder, out, how, workers, _key(key_file), keep_key, scheduler
    )
    with keeping_cases(), ProgressBars() as bars:
        report = pipeline.run(request, bars.job)
    if as_json:
        print_json({**report.to_dict(), "folder": str(out)})
    else:
        click.echo(f"{out}: {len(report.files)} files, {len(report.refused)} refused.")
    _fail(len(report.files), len(report.refused), folder, out, report.refused)


def _check_key_options(deidentify: bool, key_file: Path | None, keep_key: bool) -> None:
    if not deidentify and (key_file is not None or keep_key):
        raise click.UsageError("--key-file and --keep-key go with --deidentify.")


def _key(path: Path | None) -> Any:
    """Return the secret that the caller named; None stands for a random one."""
    from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms, find_key, write_key

    if path is not None and not path.exists():
        write_key(path, Pseudonyms.random())
    return find_key(path)


def _fail(done: int, failed: int, folder: Path, out: Path, refused: Any) -> None:
    """Raise the error with exit code 3 if something failed, and with 2 if everything failed."""
    from medseg_nca.errors import DataError, PartialFailure

    kinds = ", ".join(dict.fromkeys(one.kind for one in refused))
    if not done:
        why = f": {failed} refused ({kinds})" if failed else ""
        raise DataError(
            f"{folder}: nothing could be taken{why}.",
            hint=f"See what there is: medseg-nca dicom scan {folder}",
        )
    if failed:
        raise PartialFailure(
            f"{failed} refused ({kinds}); see {out / 'report.json'}.",
            hint=f"The other {done} are in {out}.",
        )
