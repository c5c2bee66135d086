"""Segment files with a trained model, one model load for all of them."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import DataError, MedsegError, OutputError, PartialFailure
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.predictor import Prediction, Predictor
from medseg_nca.io.atomic import write_json
from medseg_nca.io.formats import find_images, image_suffix, stem
from medseg_nca.io.read import read_image, read_volume
from medseg_nca.io.write import write_volume

logger = logging.getLogger(__name__)

# nnU-Net's ending of a file that holds one channel.
_CHANNEL = re.compile(r"_\d{4}$")

Progress = Callable[[Sequence[Path]], Iterable[Path]]


@dataclass(frozen=True)
class PredictedFile:
    """What became of one input."""

    source: Path
    outputs: dict[str, str]
    seconds: float
    voxels: dict[str, int]
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For ``predictions.json``."""
        tree: dict[str, Any] = {"input": str(self.source), "seconds": round(self.seconds, 4)}
        if self.error is not None:
            return {**tree, "error": self.error}
        return {**tree, "outputs": self.outputs, "voxels": self.voxels}


def run(
    loaded: LoadedModel,
    inputs: Sequence[Path],
    out: Path,
    settings: PredictionSettings | None = None,
    progress: Progress = lambda files: files,
) -> list[PredictedFile]:
    """Write a label map on the grid of each input, and ``predictions.json``.

    Args:
        loaded: the model.
        inputs: files, or folders whose images are taken.
        out: folder of the results; ``<name>.<format of the input>`` is the label map,
            ``<name>_probabilities`` and ``<name>_uncertainty`` beside it if asked for.
        settings: replaces the settings that the model carries.
        progress: wraps the list of files, to show how far it is.

    Raises:
        ConfigError: if the settings do not fit the model.
        DataError: if there is nothing to predict.
        OutputError: if a result would overwrite an input, or cannot be written.
        PartialFailure: after the last file, if some failed; the others are written.
    """
    predictor = Predictor(loaded, settings)
    groups = group_channels(collect(inputs), len(loaded.spec.plan.channels))
    names = _output_names(groups)
    _refuse_overwriting(groups, names, out)
    results = [_one(predictor, groups[file], out, names[file]) for file in progress(list(groups))]
    write_json(
        out / "predictions.json",
        {
            "model": loaded.spec.name,
            "weights_sha256": loaded.spec.weights_sha256,
            "labels": {label.name: label.written for label in loaded.spec.labels.labels},
            "settings": predictor.settings.model_dump(mode="json"),
            "predictions": [result.to_dict() for result in results],
        },
    )
    failed = [result for result in results if result.error]
    if failed:
        raise PartialFailure(
            f"{len(failed)} of {len(results)} inputs failed: "
            + " ".join(str(result.error) for result in failed[:5]),
            hint=f"See {out / 'predictions.json'}.",
        )
    return results


def collect(inputs: Sequence[Path]) -> list[Path]:
    """Return the image files that the inputs name, folders opened, without repetition.

    Raises:
        DataError: if an input does not exist, or there is no image at all.
    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = find_images(path)
            if not found:
                raise DataError(f"{path}: holds no image that can be read.")
            files += found
        elif not path.exists():
            raise DataError(f"{path}: there is no such file or folder.")
        else:
            files.append(path)
    if not files:
        raise DataError("There is nothing to predict.", hint="Name image files or folders.")
    return list(dict.fromkeys(files))


def group_channels(files: Sequence[Path], channels: int) -> dict[Path, tuple[Path, ...]]:
    """Put the channel files ``x_0000, x_0001, ...`` of an image together, by its first file.

    Only for models of several channels; a file without such an ending holds all of them.
    """
    if channels == 1:
        return {file: (file,) for file in files}
    groups: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        name = _CHANNEL.sub("", stem(file))
        groups.setdefault((file.parent, name), []).append(file)
    return {sorted(group)[0]: tuple(sorted(group)) for group in groups.values()}


def _output_names(groups: Mapping[Path, tuple[Path, ...]]) -> dict[Path, str]:
    """A name for each image; where two would be the same, folder and format tell them apart."""
    plain = {
        file: stem(file) if len(group) == 1 else _CHANNEL.sub("", stem(file))
        for file, group in groups.items()
    }
    names: dict[Path, str] = {}
    for file, name in plain.items():
        if list(plain.values()).count(name) > 1:
            name = f"{file.resolve().parent.name}_{name}"
        number, base = 1, name
        while name in names.values():
            number += 1
            name = f"{base}_{number}"
        names[file] = name
    return names


def _refuse_overwriting(
    groups: Mapping[Path, tuple[Path, ...]], names: Mapping[Path, str], out: Path
) -> None:
    """An output that took the place of an input would lose an image."""
    inputs = {file.resolve() for group in groups.values() for file in group}
    for file, name in names.items():
        target = out / f"{name}{_label_suffix(file)}"
        if target.resolve() in inputs:
            raise OutputError(
                f"{target}: is an input and would be overwritten.", hint="Choose another --out."
            )


def _one(predictor: Predictor, files: tuple[Path, ...], out: Path, name: str) -> PredictedFile:
    started = time.perf_counter()
    file = files[0]
    try:
        volume = read_volume(file) if len(files) == 1 else read_image(files)
        prediction = predictor.predict(volume)
        outputs = _write(prediction, out, name, file)
    except OutputError:
        raise
    except MedsegError as error:
        logger.error("%s", error)
        return PredictedFile(file, {}, time.perf_counter() - started, {}, str(error))
    except Exception as error:  # one odd file must not cost the others
        text = f"{file}: failed with an unexpected {type(error).__name__}: {error}"
        logger.exception("%s", text)
        return PredictedFile(file, {}, time.perf_counter() - started, {}, text)
    array = prediction.label_map.array
    labels = predictor.spec.labels.labels
    voxels = {label.name: int((array == label.written).sum()) for label in labels}
    return PredictedFile(file, outputs, time.perf_counter() - started, voxels)


def _label_suffix(file: Path) -> str:
    """Label maps keep the input's format; JPEG would change the numbers, so it becomes PNG."""
    suffix = image_suffix(file) or ".nii.gz"
    return ".png" if suffix in {".jpg", ".jpeg", ".bmp"} else suffix


def _write(prediction: Prediction, out: Path, name: str, file: Path) -> dict[str, str]:
    suffix = _label_suffix(file)
    real = ".tiff" if suffix in {".png", ".tif", ".tiff"} else suffix
    outputs = {"label_map": out / f"{name}{suffix}"}
    write_volume(prediction.label_map, outputs["label_map"])
    for kind in ("probabilities", "uncertainty"):
        volume = getattr(prediction, kind)
        if volume is not None:
            outputs[kind] = out / f"{name}_{kind}{real}"
            write_volume(volume, outputs[kind])
    return {kind: str(path) for kind, path in outputs.items()}
