"""From an image to a job, for all surfaces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastapi.concurrency import run_in_threadpool

from medseg_nca.errors import ConfigError
from medseg_nca.io.dicom.scan import series_uid_of_damaged
from medseg_nca.io.dicom.select import parse_selection
from medseg_nca.serving.catalogue import Served
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.http.running import Client, Running
from medseg_nca.serving.intake import Received, check_fit
from medseg_nca.serving.jobs.records import JobOptions, JobRecord, new_id

OBJECTS = ("dicom-seg", "rtstruct", "sr", "sc")
FORMATS = ("nifti", "nrrd", "mha", "png", "tiff")
MOST_PASSES = 32
NO_PACS = "There is no DICOMweb server that this server could store results in."
NO_PACS_HINT = "Fetch them, or tell who runs the server."


async def submit(
    server: Running, client: Client, served: Served, received: Received, folder: Path,
    options: JobOptions,
) -> JobRecord:  # fmt: skip
    """Put what was received into the queue.

    Args:
        server: at work.
        client: who sent it.
        served: the model.
        received: what lies in the folder.
        folder: it becomes the input of the job.
        options: how it is to be predicted.

    Raises:
        ImageError, TooLarge: if the model cannot take it.
        Refused: with 503 if the queue is full.
    """
    settings = server.settings
    options = replace(options, acceptable=settings.acceptable, miss_rate=settings.miss_rate)

    def work() -> JobRecord:
        check_fit(received, served.spec.plan, settings.limits.voxels)
        series = ""
        if received.kind == "dicom":
            series = series_uid_of_damaged(received.files[0])
        name = server.audit.name(series or received.digest)
        return server.service.submit(
            new_id(), folder, options, owner=client.name, model=served.entry.name, series=name
        )

    return await run_in_threadpool(work)


def check_options(options: JobOptions, served: Served) -> JobOptions:
    """Refuse what no image could be predicted with, before any is taken.

    Raises:
        Refused: with 422.
        ConfigError: if ``select`` is not understood.
    """
    if options.format and options.format not in FORMATS:
        raise Refused(422, f"format: it can be {', '.join(FORMATS)}.")
    if any(name not in (*OBJECTS, "none") for name in options.objects):
        raise Refused(422, f"objects: they can be {', '.join(OBJECTS)}, or none.")
    if options.uncertainty not in (0, *range(2, MOST_PASSES + 1)):
        raise Refused(422, f"uncertainty: passes are 2 to {MOST_PASSES}, or 0 for none.")
    if options.format == "png" and served.spec.plan.dims == 3:
        raise Refused(422, "format: png cannot hold the result of a model with 3 axes.")
    if options.select:
        parse_selection(options.select)
    if options.uncertainty:
        _check_passes(served)
    return options


def to_be_stored(server: Running, options: JobOptions, wish: bool | None) -> bool:
    """Whether the objects of a job go to the PACS.

    Args:
        server: at work; its setting counts where nothing is wished.
        options: of the job.
        wish: what the client said; None for nothing.

    Raises:
        Refused: with 422 if it is wished, and there is no PACS or nothing to store.
    """
    has_objects = options.kind == "dicom" and "none" not in options.objects
    if wish is None:
        return server.settings.store and has_objects
    if wish and server.pacs is None:
        raise Refused(422, NO_PACS, hint=NO_PACS_HINT)
    if wish and not has_objects:
        raise Refused(
            422, "store: there is nothing to store; DICOM objects are made of DICOM series.",
            hint="Send a DICOM series, without objects=none.",
        )  # fmt: skip
    return wish


def _check_passes(served: Served) -> None:
    model = served.spec.model
    if getattr(model, "family", "") != "nca" and len(served.spec.members) < 2:
        raise ConfigError(
            f"Model {served.entry.name} has no fire mask, so that its passes would all be the same."
        )
