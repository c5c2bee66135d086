"""Import a checkpoint of published code: state dicts become a model folder of this package."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import lcm
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medseg_nca import __version__
from medseg_nca.config import Label, LabelTable, PreprocessPlan, Settings
from medseg_nca.config.bounds import short
from medseg_nca.config.explain import explain
from medseg_nca.errors import CheckpointError, ConfigError, MedsegError, ModelError, OutputError
from medseg_nca.inference.bundle import LoadedModel, ModelSpec, load_bundle, save_bundle
from medseg_nca.inference.predictor import Predictor
from medseg_nca.inference.spec import SEGMENTATION, Origin, OriginFile
from medseg_nca.inference.strict_json import parse_json, read_regular
from medseg_nca.inference.synthetic import synthetic_volume
from medseg_nca.io.atomic import atomic_folder, write_text
from medseg_nca.job import Job
from medseg_nca.models.geometry import per_axis
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.peers.answers import PeerAnswers, check_answered
from medseg_nca.peers.checkpoint import PeerFile, read_files
from medseg_nca.peers.families import FAMILIES
from medseg_nca.peers.families.base import Converted, Family
from medseg_nca.suggest import unknown
from medseg_nca.tracking.resolve import CARD

logger = logging.getLogger(__name__)

MAX_SETTINGS_BYTES = 2**20
# Cells per axis of the coarsest level that the made-up image of the last check has.
_TRIED_CELLS = 4
# Which options the parts of a model come from.
_OPTIONS = {
    "Label": "--labels",
    "LabelTable": "--labels",
    "LevelSettings": "--steps and --scales, or to --settings",
    "ModelSpec": "--name",
    "PreprocessPlan": "--size, --spacing, --scales and --channels, or to --settings",
}


@dataclass(frozen=True)
class PeerImport:
    """What to import, and where to.

    Attributes:
        family: such as "med-nca".
        files: the checkpoint, coarse to fine if each level has a file.
        out: folder of the model, which must be empty or not there.
        answers: what the files do not say.
        settings: a JSON file of the published code that says some of it.
        name: of the model; None takes the family's.
    """

    family: str
    files: tuple[Path, ...]
    out: Path
    answers: PeerAnswers = field(default_factory=PeerAnswers)
    settings: Path | None = None
    name: str | None = None


@dataclass(frozen=True)
class ImportedModel:
    """The result of an import.

    Attributes:
        folder: folder of the model.
        title: name of the family.
        spec: the content of ``model.json``.
        parameters: number of learned parameters.
        understood: what was read and how it was mapped: rows of a table.
        assumed: what was taken for granted.
        tried: what came out for a made-up image.
    """

    folder: Path
    title: str
    spec: ModelSpec
    parameters: int
    understood: tuple[tuple[str, str], ...]
    assumed: tuple[str, ...]
    tried: str

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values for ``--json``."""
        origin = self.spec.origin
        assert origin is not None
        return {
            "model": str(self.folder),
            "name": self.spec.name,
            "family": origin.family,
            "files": [file.model_dump() for file in origin.files],
            "parameters": self.parameters,
            "understood": dict(self.understood),
            "assumed": list(self.assumed),
            "tried": self.tried,
        }


def run(request: PeerImport, job: Job | None = None) -> ImportedModel:
    """Read a checkpoint, turn it into a model, try the model, and write it.

    Args:
        request: what to import.
        job: is asked between the steps whether to go on.

    Raises:
        CheckpointError: if a file cannot be read or is not what the family writes.
        ConfigError: if something that the files do not say is missing or does not fit.
        ModelError: if the checkpoint has a feature that cannot be computed exactly.
        OutputError: if the folder is in use or cannot be written. Nothing is written on any error.
        PluginError: if the family is another package's and fails.
    """
    job = job or Job()
    if request.out.exists() and (not request.out.is_dir() or any(request.out.iterdir())):
        raise OutputError(f"{request.out}: is in use.", hint="Name a folder that is not there yet.")
    name = request.family
    if name not in FAMILIES.names:
        name = name.replace("-", "_")
    if name not in FAMILIES.names:
        shown = [known.replace("_", "-") for known in FAMILIES.names]
        raise ConfigError(unknown("family", request.family, shown))
    family: Family = FAMILIES.get(name)
    files = read_files(request.files)
    job.check()
    with _named_faults(name):
        _check_family(family, files)
    answers = request.answers
    if request.settings is not None:
        tree = _read_json(request.settings)
        with _named_faults(name):
            answers = answers.over(family.published(tree, answers.axes))
    with _named_faults(name):
        check_answered(answers, family.asks(files), family.title)
        converted = family.convert(files, answers)
        model = _filled(converted)
        spec = _spec(request, name, files, converted, answers)
    job.check()
    with atomic_folder(request.out) as folder:
        spec = save_bundle(folder, model, spec)
        tried = _try(folder, job)
        write_text(folder / CARD, _card(family, spec, converted, answers))
    return ImportedModel(
        request.out, family.title, spec, model.parameter_count(), converted.understood,
        converted.assumed, tried,
    )  # fmt: skip


@contextmanager
def _named_faults(family: str) -> Iterator[None]:
    """Say what is wrong where answers and tensors make no settings, or a package's family fails."""
    try:
        yield
    except MedsegError:
        raise
    except ValidationError as error:
        kinds = [Settings]
        for kind in kinds:  # which grows
            kinds += kind.__subclasses__()
        built = next((kind for kind in kinds if kind.__name__ == error.title), Settings)
        fault = explain(built, error).removeprefix("settings: ")
        options = _OPTIONS.get(error.title)
        raise ConfigError(
            f"This makes no model: {fault}.",
            hint=f"See to {options}."
            if options
            else "The checkpoint has it so; it cannot be imported.",
        ) from error
    except Exception as error:  # another package's family may raise anything
        if family in FAMILIES.own_names:
            raise
        reason = f"{type(error).__name__}: {error}"
        raise FAMILIES.others.find(family).broken(reason) from error


def _check_family(family: Family, files: Sequence[PeerFile]) -> None:
    """Say so where the files look like those of another family."""
    if family.recognises(files):
        return
    for name, other in FAMILIES.usable():
        try:
            fits = other is not family and other.recognises(files)
        except Exception:  # another package's family, which nobody asked for
            if name in FAMILIES.own_names:
                raise
            continue
        if not fits:
            continue
        raise CheckpointError(
            f"{files[0].name}: is no checkpoint of {family.title}; it looks like one of "
            f"{other.title}.",
            hint=f"Use --from {name.replace('_', '-')}.",
        )
    held = ", ".join(f"{n} {list(s)}" for n, s in list(files[0].shapes.items())[:4])
    raise CheckpointError(
        f"{files[0].name}: is no checkpoint of {family.title}. It holds {short(held)[1:-1]}.",
        hint=f"Files that the code of {family.source} wrote can be imported.",
    )


def _read_json(path: Path) -> Any:
    try:
        return parse_json(read_regular(path, MAX_SETTINGS_BYTES))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise ModelError(
            f"{path}: is no JSON file of settings ({error}).",
            hint="config.dt of Med-NCA and M3D-NCA and config.json of OctreeNCA are; data_split.dt "
            "is not.",
        ) from error


def _filled(converted: Converted) -> MultiLevelNca:
    """Build the model and give it the weights."""
    model = MultiLevelNca(converted.model).eval()
    buffers = {name for name, _ in model.named_buffers()}
    lacking, extra = model.load_state_dict(dict(converted.weights), strict=False)
    assert not extra, "a family maps to weights of the model"
    assert set(lacking) <= buffers, "a family maps every weight"
    return model


def _spec(
    request: PeerImport,
    family: str,
    files: Sequence[PeerFile],
    converted: Converted,
    answers: PeerAnswers,
) -> ModelSpec:
    dims = converted.model.dims
    size, spacing = answers.get("size"), answers.get("spacing")
    scales = [per_axis(level.scale, dims, "scale") for level in converted.model.resolved_levels]
    for option, values in (("--size", size), ("--spacing", spacing)):
        if len(values) != dims and (values or option == "--size"):
            raise ConfigError(f"{option} has {len(values)} values; {dims} are needed.")
    multiple = [lcm(*(scale[axis] for scale in scales)) for axis in range(dims)]
    if any(n % m for n, m in zip(size, multiple, strict=True)):
        words = "x".join(map(str, multiple))
        raise ConfigError(
            f"--size is {'x'.join(map(str, size))}; with these scales it must be a multiple of "
            f"{words}."
        )
    labels = tuple(
        Label(name=name, values=(number,)) for number, name in enumerate(answers.get("labels"), 1)
    )
    return ModelSpec(
        name=request.name or family,
        task=SEGMENTATION,
        model=converted.model.portable,
        labels=LabelTable(labels=labels, multi_label=True),
        plan=PreprocessPlan(
            dims=dims, channels=answers.get("channels"), orientation=None,
            spacing=spacing or None, normalise=answers.get("normalise"), crop_size=size,
            scales=tuple(scales),
        ),
        package_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        origin=Origin(
            family=family,
            files=tuple(OriginFile(name=file.name, sha256=file.sha256) for file in files),
        ),
    )  # fmt: skip


def _try(folder: Path, job: Job) -> str:
    """Predict a made-up image with the files just written, on a small grid."""
    loaded = load_bundle(folder, "cpu")
    plan = loaded.spec.plan
    side = [_TRIED_CELLS * n for n in plan.scales[0]]
    small = tuple(min(a, b) for a, b in zip(side, plan.crop_size, strict=True))
    spec = loaded.spec.changed(plan=plan.changed(crop_size=small))
    tried = LoadedModel(loaded.model, spec, folder, loaded.device, (), loaded.engine)
    found = Predictor(tried).predict(synthetic_volume(spec.plan), job).label_map.array
    shares = [f"{label.name} {(found == label.written).mean():.0%}" for label in spec.labels.labels]
    return f"{'x'.join(map(str, found.shape[1:]))} voxels: {', '.join(shares)}"


def _card(family: Family, spec: ModelSpec, converted: Converted, answers: PeerAnswers) -> str:
    origin = spec.origin
    assert origin is not None
    files = "\n".join(f"| {file.name} | `{file.sha256}` |" for file in origin.files)
    rows = "\n".join(f"| {key} | {value} |" for key, value in converted.understood)
    assumed = "".join(f"- {text}\n" for text in converted.assumed) or "- nothing\n"
    labels: Mapping[str, Any] = {"labels": ", ".join(spec.labels.names)}
    return (
        f"# {spec.name} (imported)\n\n"
        f"Imported from a checkpoint of {family.title} ({family.source}) by medseg_nca "
        f"{spec.package_version}, {spec.created}. It was neither trained nor evaluated by this "
        "package.\n\n"
        f"| file | sha256 |\n|---|---|\n{files}\n\n"
        f"| what | as understood |\n|---|---|\n{rows}\n| labels | {labels['labels']} |\n"
        f"| intensities | {answers.get('normalise')} |\n\n"
        f"Taken for granted:\n\n{assumed}"
    )
