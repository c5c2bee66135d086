"""The compiled loops on a user's machine: any vectors, any process, damaged or out of date."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from numpy.random import bit_generator

from medseg_nca.errors import DependencyError
from medseg_nca.nca import Cell, Fire
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.engines.auto import AutoEngine
from medseg_nca.nca.kernels import build, library, proof, run
from tests.nca.cells import make_cell

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = [name for name, _, _ in build.variants()]
# Prints the variant, the largest difference to the reference, and sums of state and gradients.
SCRIPT = """
import sys, torch
from medseg_nca.config.model import CellSettings, UpdateSettings
from medseg_nca.nca import Cell, Fire
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.kernels.library import library
torch.manual_seed(0)
cell = Cell(CellSettings(channels=16, update=UpdateSettings(hidden=64, norm="rms")), 1, 3)
for parameter in cell.parameters():
    torch.nn.init.normal_(parameter, std=0.1)
state = torch.randn(1, 16, 20, 21, 22)
fire = Fire.for_batch(0.5, 0, 1)
outcomes = []
for name in ("cpu", "reference"):
    with torch.no_grad():
        get_engine(name).roll_out(cell, state, 4, fire)
    leaf = state.clone().requires_grad_()
    after = get_engine(name).roll_out(cell, leaf, 4, fire)
    grads = torch.autograd.grad(after.square().sum(), (leaf, *cell.parameters()))
    outcomes.append([after.detach(), *grads])
worst = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*outcomes))
print(library().variant, worst, [float(t.double().sum()) for t in outcomes[0]])
"""


def outcome(**environment: str) -> tuple[str, float, str]:
    """The variant, the largest relative difference to the reference, and sums of all results."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    variant, worst, sums = done.stdout.split(maxsplit=2)
    return variant, float(worst), sums


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything that a process remembers of the library is forgotten, before and after."""
    library.look_in()
    proof.unusable.cache_clear()
    yield
    monkeypatch.undo()
    library.look_in()
    proof.unusable.cache_clear()


def roll(name: str, cell: Cell) -> torch.Tensor:
    state = torch.ones(1, cell.channels, 6, 7)
    engine = AutoEngine() if name == "auto" else get_engine(name)  # it says everything once
    with torch.no_grad():
        return engine.roll_out(cell, state, 2, Fire.for_batch(0.5, 0, 1))


@pytest.fixture
def cell() -> Cell:
    return make_cell(2, dtype=torch.float32)


def test_gradients_are_the_same_in_every_process() -> None:
    """Once they were wrong in each process after the first, where kernels came from a cache."""
    results = [outcome(PYTHONHASHSEED=seed) for seed in ("0", "1", "1")]
    assert all(worst < 1e-4 for _, worst, _ in results)
    assert len({sums for _, _, sums in results}) == 1


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_that_this_processor_runs(name: str, fresh: None) -> None:
    possible = VARIANTS[VARIANTS.index(library.variant()) :]
    if name not in possible:
        pytest.skip(f"this processor does not run {name}")
    variant, worst, _ = outcome(MEDSEG_NCA_VECTORS=name)
    assert variant == name
    assert worst < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS[1:])
def test_the_parity_suite_with_narrower_vectors(name: str, fresh: None) -> None:
    possible = VARIANTS[VARIANTS.index(library.variant()) :]
    if name not in possible:
        pytest.skip(f"this processor does not run {name}")
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k",
         "cpu and (reference or precision or bfloat16 or gradcheck)", "tests/nca/test_engines.py"],
        env={**os.environ, "MEDSEG_NCA_VECTORS": name}, cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip


def test_vectors_that_the_processor_lacks_are_refused(
    fresh: None, monkeypatch: pytest.MonkeyPatch, cell: Cell
) -> None:
    monkeypatch.setenv("MEDSEG_NCA_VECTORS", "avx1024")
    with pytest.raises(DependencyError, match=r"MEDSEG_NCA_VECTORS is 'avx1024'; this processor"):
        roll("cpu", cell)


def test_a_library_of_other_sources_is_not_used(
    fresh: None, tmp_path: Path, caplog: pytest.LogCaptureFixture, cell: Cell
) -> None:
    """After a change of the sources, or an update that left an old file behind."""
    shutil.copyfile(build.HERE / build.library_name(), tmp_path / build.library_name())
    shutil.copytree(build.SOURCES, tmp_path / build.SOURCES.name)
    library.look_in(tmp_path)
    torch.testing.assert_close(roll("cpu", cell), roll("reference", cell))
    with (tmp_path / build.SOURCES.name / "tiles.hpp").open("a") as file:
        file.write("// changed\n")
    library.look_in(tmp_path)
    proof.unusable.cache_clear()
    with pytest.raises(DependencyError, match=r"made from other sources; run python -m"):
        roll("cpu", cell)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(roll("auto", cell), roll("reference", cell))
    assert "Engine: reference" in caplog.text


def test_the_digest_follows_the_sources(tmp_path: Path) -> None:
    before = build.digest()
    for file in build.SOURCES.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert build.digest(tmp_path) == before
    with (tmp_path / "tiles.hpp").open("a") as file:
        file.write("// changed\n")
    assert build.digest(tmp_path) != before


@pytest.mark.slow
def test_two_processes_that_compile_at_once_leave_one_whole_library(
    fresh: None, tmp_path: Path, cell: Cell
) -> None:
    try:
        build.compiler()
    except RuntimeError:
        pytest.skip("no C++ compiler is installed")
    target = tmp_path / build.library_name()
    script = f"import build, pathlib; build.build(pathlib.Path({str(target)!r}))"
    command = [sys.executable, "-c", script]
    building = [subprocess.Popen(command, cwd=build.HERE) for _ in range(2)]
    assert [process.wait() for process in building] == [0, 0]
    assert [file.name for file in tmp_path.iterdir()] == [target.name]
    library.look_in(tmp_path)
    assert proof.unusable(torch.float32, True) is None
    torch.testing.assert_close(roll("cpu", cell), roll("reference", cell))


@pytest.mark.parametrize("content", [None, b"", b"no library"])
def test_a_library_that_is_missing_or_damaged_is_told(
    fresh: None, caplog: pytest.LogCaptureFixture, tmp_path: Path, content: bytes | None,
    cell: Cell,
) -> None:  # fmt: skip
    library.look_in(tmp_path)
    if content is not None:
        (tmp_path / build.library_name()).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(roll("auto", cell), roll("reference", cell))
    assert str(tmp_path) in caplog.text
    for need in (get_engine("cpu").bytes_per_cell, get_engine("cpu").bytes_kept):
        with pytest.raises(DependencyError, match=r"model\.engine"):
            need(cell, torch.zeros(1, 5, 6, 7))


def test_a_file_of_another_library_is_told(fresh: None, tmp_path: Path, cell: Cell) -> None:
    shutil.copyfile(bit_generator.__file__, tmp_path / build.library_name())
    library.look_in(tmp_path)
    with pytest.raises(DependencyError, match="has no medseg_nca_digest; reinstall"):
        roll("cpu", cell)


def test_a_library_that_computes_nan_is_not_used(
    fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reports a step after which the state is not finite, and an automaton is not at fault."""
    # Loops that are wrong on purpose would take a minute to compile, so a right answer is replaced.
    monkeypatch.setattr(library.Library, "roll", lambda *_: 0)
    assert "other states" in (proof.unusable(torch.float32, False) or "")


def test_the_proof_does_not_depend_on_what_the_caller_has_set(fresh: None) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"), torch.inference_mode():
        assert proof.unusable(torch.float32, True) is None


@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_loops_that_compute_something_else_are_not_used(
    fresh: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, factor: float,
    cell: Cell,
) -> None:  # fmt: skip
    # Compiling wrong loops would take a minute, so the answer of right ones is changed.
    compute = run.compute
    monkeypatch.setattr(run, "compute", lambda *a, **k: compute(*a, **k) * factor)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(roll("auto", cell), roll("reference", cell))
    assert "computes other states than the reference" in caplog.text


def test_wrong_gradients_are_found_where_states_are_right(
    fresh: None, monkeypatch: pytest.MonkeyPatch, cell: Cell
) -> None:
    backward = run.Rollout.backward

    def wrong(*arguments: object) -> object:
        state, weights = backward(*arguments)  # type: ignore[arg-type]
        return state, tuple(w * 0.99 for w in weights)

    # Compiling wrong loops would take a minute, so the answer of right ones is changed.
    monkeypatch.setattr(run.Rollout, "backward", wrong)
    assert proof.unusable(torch.float32, False) is None
    assert "other gradients" in (proof.unusable(torch.float32, True) or "")


def test_the_proof_leaves_the_random_numbers_alone(fresh: None) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    proof.unusable(torch.float32, True)
    assert torch.equal(torch.rand(4), expected)
