"""What every test starts from: one thread, fixed seeds, its own home, and no network telemetry."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent

# A slow machine is no failure, and a test that passed yesterday passes today.
settings.register_profile("medseg", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("medseg")

# Set before anything imports torch, matplotlib or MLflow, which read them once.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
# Without a GPU the kernels of the engine "triton" run in Triton's interpreter.
if not any(Path("/dev").glob("nvidia[0-9]*")):
    os.environ.setdefault("TRITON_INTERPRET", "1")
for _name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME"):
    os.environ.pop(_name, None)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by the word alone: packed content may hold the time of day.

    Each process of pytest-xdist collects by itself, and all of them must give the same names.
    """
    return "bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches and settings of the user are neither read nor written."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
        patch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
        patch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))
        patch.setenv("MPLCONFIGDIR", str(home / ".matplotlib"))
        yield


@pytest.fixture(autouse=True)
def _restore_state() -> Iterator[None]:
    """Each test starts from the same seeds and leaves what the process shares as it found it."""
    environment = dict(os.environ)
    mask = os.umask(0)
    os.umask(mask)
    folder = Path.cwd()
    log = logging.getLogger("medseg_nca")
    level, handlers = log.level, list(log.handlers)
    _seed(0)
    yield
    log.setLevel(level)
    log.handlers = handlers
    os.chdir(folder)
    os.umask(mask)
    os.environ.clear()
    os.environ.update(environment)
    torch = sys.modules.get("torch")
    if torch is not None:
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)
        torch.use_deterministic_algorithms(False)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # MONAI and scikit-image still read the global state
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """``shared_data(name)`` is the folder of a real data set; the test skips where it is absent."""
    root = Path(os.environ.get("MEDSEG_DATA", REPOSITORY.parent / "shared" / "data"))

    def find(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            pytest.skip(
                f"{folder} is absent: put the data set there (`medseg-nca data fetch {name}` gets "
                "a Decathlon task), or name its parent folder in MEDSEG_DATA"
            )
        return folder

    return find
