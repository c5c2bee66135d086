"""Every stage, one after the other, on a phantom: what a newcomer sees without any data."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medseg_nca.config import RunSettings
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.datasets.find import open_dataset
from medseg_nca.datasets.splits import read_split
from medseg_nca.errors import NothingLearned, OutputError
from medseg_nca.inference.bundle import LoadedModel, load_bundle
from medseg_nca.io.atomic import write_json
from medseg_nca.job import Job
from medseg_nca.pipelines import evaluate, predict, preprocess, register, train
from medseg_nca.pipelines.run_folder import LOG, SPLIT
from medseg_nca.tasks.base import EvaluateRequest, PredictRequest
from medseg_nca.tracking import registry
from medseg_nca.training.state import TrainingResult

logger = logging.getLogger(__name__)

MODEL = "phantom-demo"
ALIAS = "champion"
MARK = "demo.json"
SHOWN = ("dice", "hd95")
# On the held-out cases. The demo's settings reach more than 0.7; a constant answer less than 0.1.
REQUIRED_DICE = 0.5
Announce = Callable[[str, str], None]


@dataclass
class DemoResult:
    """What the demo made.

    Attributes:
        out: its folder.
        labels: for each label and "merged", mean Dice and mean HD95 (mm) on the held-out cases.
        mean_dice: over the labels.
        cases: how many were held out.
        parameters: of the model.
        model: the name that the registered model is loaded by.
        tracking_uri: the store that it is registered in.
        predicted: the label map that was written.
        report: the evaluation's report.
        seconds: of each stage.
        problems: why the model is useless; then it is not registered and nothing is predicted.
    """

    out: Path
    labels: dict[str, dict[str, float | None]] = field(default_factory=dict)
    mean_dice: float | None = None
    cases: int = 0
    parameters: int = 0
    model: str = ""
    tracking_uri: str = ""
    predicted: Path = Path()
    report: Path = Path()
    seconds: dict[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def raise_if_useless(self) -> None:
        """Refuse a demo whose model is useless.

        Raises:
            NothingLearned: with the reasons.
        """
        if self.problems:
            raise NothingLearned(
                f"The demo's model is useless. {' '.join(self.problems)}",
                hint=f"On a slow or busy machine give it more time with --minutes; {self.out}/run/"
                f"{LOG} tells how the training went.",
            )

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        tree = asdict(self)
        return {key: str(v) if isinstance(v, Path) else v for key, v in tree.items()}


def run(
    out: Path,
    settings: RunSettings,
    *,
    cases: int = 24,
    announce: Announce = lambda stage, text: logger.info("%s: %s.", stage, text),
    job: Job | None = None,
) -> DemoResult:
    """Make a phantom data set, prepare it, train, evaluate, register and predict.

    Args:
        out: folder of the demo. What an earlier demo left there is replaced, but for the versions
            that it registered; a folder with anything else in it is refused.
        settings: of the run; the tracking store is put into ``out``.
        cases: of the phantom, held-out ones among them.
        announce: told the name of each stage that begins, and what it does.
        job: told how far each stage is.

    Returns:
        What it made; a model that is useless is neither registered nor used.

    Raises:
        OutputError: if ``out`` holds something that no demo wrote.
        Interrupted: if the job was cancelled.
        MedsegError: whatever a stage raises.
    """
    job = job or Job()
    _clear(out)
    settings = _with_store(settings, out)
    data, prepared, run_folder = out / "data", out / "prepared", out / "run"
    result = DemoResult(out, tracking_uri=settings.tracking.uri or "")
    with _stage("phantom", f"making {cases} phantom cases", announce, result):
        write_phantom(data, cases=cases, seed=settings.seed, job=job)
    with _stage("preprocess", "preparing them", announce, result):
        preprocess.run(preprocess.PreprocessRequest(data, prepared, settings), job)
    with _stage("train", "training", announce, result):
        trained = train.run(prepared, run_folder, settings, job=job)
        result.parameters = trained.parameters
    loaded = load_bundle(run_folder / "model", settings.device)
    with _stage("evaluate", "measuring the held-out cases", announce, result):
        folder = run_folder / "evaluation"
        evaluation = evaluate.run(EvaluateRequest(loaded, prepared, folder), job)
        _read_metrics(evaluation.tree, result)
        result.report = evaluation.out / "report.html"
    result.problems = _problems(trained.training, result.mean_dice)
    if not result.problems:
        _use(result, data, run_folder, loaded, settings, announce, job)
    write_json(out / MARK, result.to_dict())
    return result


def _problems(training: TrainingResult, dice: float | None) -> tuple[str, ...]:
    """Why a model is useless."""
    remarks = training.remarks if training.learned is False else ()
    if dice is not None and dice >= REQUIRED_DICE:
        return remarks
    low = f"Its mean Dice on the held-out cases is {dice or 0:.3f}; {REQUIRED_DICE:g} is required."
    return (low, *remarks)


def _use(
    result: DemoResult,
    data: Path,
    run_folder: Path,
    loaded: LoadedModel,
    settings: RunSettings,
    announce: Announce,
    job: Job,
) -> None:
    """Register the model, and predict with it."""
    with _stage("register", "registering the model", announce, result):
        version = register.run(
            run_folder,
            MODEL,
            tracking=settings.tracking,
            description="Trained by `medseg-nca demo` on a phantom.",
        )
        version = registry.promote(MODEL, version.version, ALIAS, tracking=settings.tracking)
        result.model = version.uri
    with _stage("predict", "segmenting one held-out image", announce, result):
        case_id = read_split(run_folder / SPLIT).test[0]
        case = next(c for c in open_dataset(data).cases if c.id == case_id)
        request = PredictRequest(loaded, case.images, result.out / "predictions")
        files = predict.run(request, job)
        result.predicted = Path(files[0].to_dict()["outputs"]["label_map"])


@contextmanager
def _stage(name: str, text: str, announce: Announce, result: DemoResult) -> Iterator[None]:
    announce(name, text)
    started = time.perf_counter()
    yield
    result.seconds[name] = round(time.perf_counter() - started, 2)


def _clear(out: Path) -> None:
    """Make ``out`` the empty folder of a demo; remove nothing but what a demo wrote."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is not a folder.", hint="Choose another --out.")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise OutputError(
            f"{out}: holds something that is not of the demo.", hint="Choose another --out."
        )
    for name in ("data", "prepared", "run", "predictions"):  # the store keeps its versions
        shutil.rmtree(out / name, ignore_errors=True)
    write_json(out / MARK, {"state": "started"})


def _with_store(settings: RunSettings, out: Path) -> RunSettings:
    uri = f"sqlite:///{(out / 'mlflow.db').absolute().as_posix()}"
    tracking = settings.tracking.changed(uri=uri)
    return settings.changed(tracking=tracking)


def _read_metrics(tree: dict[str, Any], result: DemoResult) -> None:
    parts = {**tree["labels"], "merged": tree["merged"]}
    result.labels = {
        label: {metric: part[metric]["mean"] for metric in SHOWN} for label, part in parts.items()
    }
    result.mean_dice = tree["mean_dice"]
    result.cases = len(tree["cases"])
