"""The stages as commands with few and fast settings, for the tests of bad input."""

from __future__ import annotations

from pathlib import Path

from click.testing import Result

from tests.cli.runner import run

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


def image_of(data: Path, case: str = CASES[1]) -> Path:
    return data / "imagesTr" / f"{case}.nii.gz"


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
