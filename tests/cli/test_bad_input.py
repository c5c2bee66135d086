"""Bad input through the command line: a clear word, the right exit code, nothing half-written."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from click.testing import Result
from numpy.typing import NDArray

from medseg_nca.cases.prepare_case import prepare_case
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.training.loop import Trainer
from tests.cli.runner import complains, files_below, half_written, run

SETTINGS = (
    "training.max_minutes=null", "training.threads=1", "preprocess.crop_size=[16,16]",
    "model.levels=[{scale: 2, steps: 2}, {scale: 1, steps: 2}]",
)  # fmt: skip
# Of `train`, because so few iterations teach nothing.
TRAINED = 5
CASES = ("phantom_00000", "phantom_00001", "phantom_00002", "phantom_00003")


def options(*more: str) -> list[str]:
    return ["--config", "demo", *(part for text in (*SETTINGS, *more) for part in ("--set", text))]


def train(data: Path, out: Path, *args: object, iterations: int = 2) -> Result:
    settings = options(f"training.iterations={iterations}")
    return run("train", "--data", data, "--out", out, "--no-tracking", *settings, *args)


def preprocess(data: Path, out: Path) -> Result:
    return run("preprocess", "--data", data, "--out", out, "--workers", 0, *options())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad_input") / "data"
    return write_phantom(folder, cases=len(CASES), seed=1, dims=2, size=(24, 20))


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bad_input") / "prepared"
    assert preprocess(source, out).exit_code == 0
    return out


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bad_input") / "run"
    assert train(prepared, out).exit_code == TRAINED
    return out


@pytest.fixture
def data(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "data"))


@pytest.fixture
def run_folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def image_of(data: Path, case: str = CASES[1]) -> Path:
    return data / "imagesTr" / f"{case}.nii.gz"


def label_of(data: Path, case: str = CASES[1]) -> Path:
    return data / "labelsTr" / f"{case}.nii.gz"


def rewrite(
    path: Path,
    change: Callable[[NDArray[Any]], NDArray[Any]] = lambda array: array,
    shift: float = 0,
) -> None:
    image: Any = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += shift
    nib.Nifti1Image(change(np.asarray(image.dataobj)), affine).to_filename(path)


def with_value(value: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def change(array: NDArray[Any]) -> NDArray[Any]:
        changed = array.astype(np.float32)
        changed[3, 3] = value
        return changed

    return change


def four_axes(array: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(array.reshape(*array.shape[:2], 1, 1), 3, axis=3)


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def shape_of(path: Path) -> tuple[int, ...]:
    image: Any = nib.load(path)
    return tuple(image.shape)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


# Name: (which file, what becomes of it, what `data check` calls it, words of the other commands).
FAULTS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object], str, str]] = {
    "missing image": (image_of, Path.unlink, "missing_file", ""),
    "missing label": (label_of, Path.unlink, "missing_file", ""),
    "folder": (image_of, a_folder, "missing_file", ""),
    "empty file": (image_of, lambda p: p.write_bytes(b""), "image_unusable", "is empty"),
    "no image": (image_of, lambda p: p.write_text("hello"), "image_unusable", "damaged"),
    "truncated": (image_of, truncate, "image_unusable", "truncated"),
    "truncated label": (label_of, truncate, "label_unusable", "truncated"),
    "shape": (label_of, lambda p: rewrite(p, lambda a: a[:-3]), "shape_differs", "shape"),
    "affine": (label_of, lambda p: rewrite(p, shift=50), "affine_differs", "affine"),
    "values": (label_of, lambda p: rewrite(p, lambda a: a + 70), "unknown_label_value", "70"),
    "fraction": (label_of, lambda p: rewrite(p, with_value(0.5)), "label_unusable", "0.5"),
    "4D image": (image_of, lambda p: rewrite(p, four_axes), "wrong_dims", ""),
    "4D label": (label_of, lambda p: rewrite(p, four_axes), "label_unusable", "is 4D"),
    "NaN": (image_of, lambda p: rewrite(p, with_value(np.nan)), "image_unusable", "1 of"),
    "Inf": (image_of, lambda p: rewrite(p, with_value(np.inf)), "image_unusable", "1 of"),
    "constant": (
        image_of, lambda p: rewrite(p, lambda a: np.full_like(a, 7)), "constant_image", "constant",
    ),
}  # fmt: skip
NOT_IN_THE_IMAGE = {"missing label", "truncated label", "shape", "affine", "values", "fraction",
                    "4D label"}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_case_is_found_by_the_check(data: Path, fault: str) -> None:
    which, spoil, kind, _ = FAULTS[fault]
    spoil(which(data))
    result = run("data", "check", data, "--json", "-")
    complains(result, data, "error(s) in 4 cases")
    found = [f for f in json.loads(result.stdout)["findings"] if f["code"] == kind]
    assert found
    assert CASES[1] in json.dumps(found)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_case_does_not_stop_the_preprocessing_of_others(
    data: Path, tmp_path: Path, fault: str
) -> None:
    which, spoil, _, words = FAULTS[fault]
    spoil(which(data))
    out = tmp_path / "out"
    complains(preprocess(data, out), "1 of 4 cases failed", CASES[1], words, "Next: ", code=3)
    assert len(list((out / "cases").iterdir())) == 3
    assert not half_written(tmp_path)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_case_alone_leaves_nothing_to_evaluate(
    data: Path, trained: Path, tmp_path: Path, fault: str
) -> None:
    table = json.loads((data / "dataset.json").read_text())
    table["training"] = [case for case in table["training"] if CASES[1] in case["image"]]
    (data / "dataset.json").write_text(json.dumps(table))
    which, spoil, _, words = FAULTS[fault]
    spoil(which(data))
    out = tmp_path / "out"
    result = run("evaluate", "--model", trained, "--data", data, "--split", "all", "--out", out)
    complains(result, which(data) if fault != "4D image" else CASES[1], words)
    assert not out.exists()


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - NOT_IN_THE_IMAGE))
def test_a_bad_image_does_not_stop_the_prediction_of_others(
    data: Path, trained: Path, tmp_path: Path, fault: str
) -> None:
    which, spoil, _, words = FAULTS[fault]
    spoil(which(data))
    out = tmp_path / "out"
    result = run("predict", "--model", trained, "--out", out, image_of(data), label_of(data))
    code = 3 if image_of(data).is_file() else 2  # a path that is no file is refused at once
    complains(result, image_of(data), words, code=code)
    assert out.exists() == (code == 3)
    assert not (out / image_of(data).name).exists()
    assert not half_written(tmp_path)


@pytest.mark.parametrize("command", ["check", "preprocess", "evaluate", "predict"])
def test_an_empty_folder(trained: Path, tmp_path: Path, command: str) -> None:
    folder, out = tmp_path / "empty", tmp_path / "out"
    folder.mkdir()
    arguments: dict[str, tuple[object, ...]] = {
        "check": ("data", "check", folder),
        "preprocess": ("preprocess", "--data", folder, "--out", out),
        "evaluate": ("evaluate", "--model", trained, "--data", folder, "--out", out),
        "predict": ("predict", "--model", trained, "--out", out, folder),
    }
    complains(run(*arguments[command]), folder)
    assert not out.exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.lrr=1", "unknown key 'training.lrr'; did you mean 'lr'?"),
        ("trainin.lr=1", "did you mean 'training'?"),
        ("model.levels=[{scael: 2}]", "unknown key 'model.levels.0.scael'; did you mean 'scale'?"),
        ("training.lr=fast", "training.lr: Input should be a valid number"),
        ("training.iterations=0", "greater than or equal to 1"),
        ("training=3", "training: "),
        ("model=m3d_ncaa", "did you mean 'm3d_nca'?"),
        ("training.lr", "write it as key=value"),
        ("training.lr=[1", "not valid YAML"),
    ],
)
def test_a_typo_in_an_override(prepared: Path, tmp_path: Path, override: str, words: str) -> None:
    complains(train(prepared, tmp_path / "out", "--set", override), words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("trainig: {lr: 1}", "unknown key 'trainig'; did you mean 'training'?"),
        ("model:\n  levels:\n  - {scale: 2, stepps: 3}", "did you mean 'steps'?"),
        ("training: {lr: 1", "is not valid YAML"),
        ("training:\n\tlr: 1", "is not valid YAML"),
        ("seed: 1\nseed: 2", "given twice"),
        ("- 1", "must hold 'key: value' settings"),
        ("seed: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        (None, "there is no such settings file"),
    ],
)
def test_a_settings_file_with_a_fault(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_text(content)
    complains(run("config", "show", path), path, words)


def test_an_unknown_preset(prepared: Path, tmp_path: Path) -> None:
    result = run("train", "--data", prepared, "--out", tmp_path / "out", "--config", "demoo")
    complains(result, "did you mean 'demo'?")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fold", [-1, 3, 99])
def test_a_fold_that_is_not_there(prepared: Path, tmp_path: Path, fold: int) -> None:
    result = train(prepared, tmp_path / "out", "--fold", fold, "--folds", 3)
    complains(result, "0 to 2")
    assert not (tmp_path / "out").exists()


def test_a_second_training_in_one_folder(prepared: Path, run_folder: Path) -> None:
    before = {name: (run_folder / name).read_bytes() for name in files_below(run_folder)}
    complains(train(prepared, run_folder), run_folder, "--resume")
    assert {name: (run_folder / name).read_bytes() for name in files_below(run_folder)} == before


def test_a_checkpoint_of_another_model(prepared: Path, run_folder: Path) -> None:
    settings = run_folder / "settings.yaml"
    text = settings.read_text()
    assert "    channels: 16" in text
    settings.write_text(text.replace("    channels: 16", "    channels: 12"))
    weights = (run_folder / "model" / "weights.safetensors").read_bytes()
    result = train(prepared, run_folder, "--resume", iterations=4)
    complains(result, run_folder / "checkpoints", "of another model")
    assert (run_folder / "model" / "weights.safetensors").read_bytes() == weights


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "truncated"])
def test_a_corrupt_checkpoint_falls_back_to_the_one_before(
    prepared: Path, run_folder: Path, content: bytes | None
) -> None:
    last = run_folder / "checkpoints" / "last.pt"
    truncate(last) if content is None else last.write_bytes(content)
    result = train(prepared, run_folder, "--resume", iterations=3)
    assert result.exit_code == TRAINED, result.output
    assert "checkpoint before it" in " ".join(result.stderr.split())
    assert json.loads((run_folder / "training.json").read_text())["iterations"] == 3


def test_no_checkpoint_is_left(prepared: Path, run_folder: Path) -> None:
    for name in ("last.pt", "previous.pt"):
        (run_folder / "checkpoints" / name).write_bytes(b"")
    complains(train(prepared, run_folder, "--resume"), "last.pt", "previous.pt", "Next: ")


def test_a_picture_with_other_channels(trained: Path, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "colour.png"
    values = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    result = run("predict", "--model", trained, "--out", tmp_path / "out", path)
    assert result.exit_code in {2, 3}
    assert f"{path}: channels: 3; needed: 1" in result.stderr
    assert files_below(tmp_path / "out") in ([], ["predictions.json"])


def test_evaluating_without_labels_or_with_others(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    evaluate = ("evaluate", "--model", trained, "--out", tmp_path / "out", "--data")
    plain = tmp_path / "plain"
    shutil.copytree(data / "imagesTr", plain / "images")
    complains(run(*evaluate, plain), plain, "has no labelled case", "predict")
    table = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**table, "labels": {"0": "no", "1": "liver"}}))
    complains(run(*evaluate, data), "posterior", "liver (1)")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(1, 20), (24, 1), (2, 2)])
def test_tiny_images_are_predicted(
    data: Path, trained: Path, tmp_path: Path, shape: tuple[int, int]
) -> None:
    path = image_of(data)
    rewrite(path, lambda array: array[: shape[0], : shape[1]].copy())
    expected = shape_of(path)
    assert run("predict", "--model", trained, "--out", tmp_path / "out", path).exit_code == 0
    assert shape_of(tmp_path / "out" / path.name) == expected


def test_odd_names_are_names(data: Path, trained: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "odd names", tmp_path / "out [bold]"
    folder.mkdir()
    names = ["with space", "new\nline", "ünï 脳", "-dash", "[red]x", "a.b", "quote'\""]
    for name in names:
        shutil.copy(image_of(data), folder / f"{name}.nii.gz")
    (folder / "link.nii.gz").symlink_to(image_of(data))
    assert run("predict", "--model", trained, "--out", out, folder).exit_code == 0
    expected = {f"{name}.nii.gz" for name in [*names, "link"]}
    assert set(files_below(out)) == expected | {"predictions.json"}


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond ``limit`` bytes: the nearest to a full disk without a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_model_that_learned_nothing_is_not_sent_to_the_registry(
    trained: Path, prepared: Path, tmp_path: Path
) -> None:
    result = run("evaluate", "--model", trained, "--data", prepared, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "Next:" not in result.output
    refused = run("models", "register", trained, "--name", "useless")
    complains(refused, trained, "learned nothing", "--force")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seed", -5),
        ("--seed", 2**63),
        ("--seed", 1.5),
        ("--memory-gb", 0),
        ("--memory-gb", -1),
        ("--memory-gb", "nan"),
        ("--memory-gb", "inf"),
        ("--seg-type", "binry"),
        ("--format", "nifty"),
        ("--fire", "men"),
        ("--uncertainty", 1001),
        ("--flips", "0,0"),
        ("--largest", "no_such_label"),
    ],
)
def test_a_wrong_option_of_predict_is_refused_before_any_work(
    trained: Path, data: Path, tmp_path: Path, option: str, value: object
) -> None:
    out = tmp_path / "out"
    result = run("predict", "--model", trained, "--out", out, image_of(data), option, value)
    complains(result)
    named = {"--format": "output format", "--largest": "largest", "--uncertainty": "uncertainty"}
    assert named.get(option, option) in result.stderr
    assert str(value).split(",")[0] in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seed", -5),
        ("--seed", 2**63),
        ("--max-minutes", 0),
        ("--max-minutes", "nan"),
        ("--max-minutes", "inf"),
        ("--fold", -1),
        ("--fold", 5),
        ("--folds", 1),
        ("--device", "gpu9"),
    ],
)
def test_a_wrong_option_of_train_is_refused_before_any_work(
    prepared: Path, tmp_path: Path, option: str, value: object
) -> None:
    out = tmp_path / "run"
    result = train(prepared, out, option, value)
    complains(result, option.removeprefix("--"), value)
    assert not out.exists()


COMMANDS = ["preprocess", "train", "predict", "evaluate", "export", "report"]


def writing(command: str, out: Path, data: Path, prepared: Path, trained: Path) -> Result:
    match command:
        case "preprocess":
            return preprocess(data, out)
        case "train":
            return train(prepared, out)
        case "predict":
            return run("predict", "--model", trained, "--out", out, image_of(data))
        case "evaluate":
            return run("evaluate", "--model", trained, "--data", data, "--out", out)
        case "export":
            return run("models", "export", trained, "--to", out)
        case _:
            return run("data", "check", data, "--json", out / "report.json")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(
    data: Path, prepared: Path, trained: Path, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "out"
    with full_disk(100):
        result = writing(command, out, data, prepared, trained)
    complains(result, out)
    assert not half_written(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_written(
    data: Path, prepared: Path, trained: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "out"
    complains(writing(command, out, data, prepared, trained), out)
    assert (tmp_path / "file").read_text() == "in the way"


def test_ctrl_c_in_training_can_be_resumed(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread alone")
    step = Trainer._step

    def interrupted(self: Trainer, batch: dict[str, Any]) -> dict[str, Any]:
        values = step(self, batch)
        if self.counters.iteration == 1:
            signal.raise_signal(signal.SIGINT)
        return values

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", interrupted)
        complains(train(prepared, out, iterations=4), "iteration 2", "--resume", code=130)
    assert not half_written(out)
    assert train(prepared, out, "--resume", iterations=4).exit_code == TRAINED
    assert json.loads((out / "training.json").read_text())["iterations"] == 4


def test_ctrl_c_in_preprocessing_keeps_what_is_done(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread alone")
    calls = []

    def interrupted(item: Any, job: Any) -> Any:
        calls.append(item)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return prepare_case(item, job)

    out = tmp_path / "out"
    # A process that a shell started in the background ignores Ctrl-C unless told otherwise.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr("medseg_nca.pipelines.preprocess.prepare_case", interrupted)
            complains(preprocess(data, out), "finished cases are kept", "same command", code=130)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(list((out / "cases").iterdir())) == 2
    assert not half_written(out)
    again = preprocess(data, out)
    assert again.exit_code == 0
    assert "2 were up to date" in " ".join(again.stderr.split())
