"""Where a result came from: the commit of the code and the versions of the packages."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import medseg_nca

# The packages whose version can change a number in a result.
PACKAGES = (
    "torch",
    "monai",
    "numpy",
    "scipy",
    "scikit-image",
    "scikit-learn",
    "nibabel",
    "SimpleITK",
    "mlflow",
)
TIMEOUT_S = 10


def package_version(name: str) -> str | None:
    """Return the installed version of a package; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def package_versions() -> dict[str, str]:
    """Return the versions of this package and of the packages that can change its numbers."""
    found = {name: package_version(name) for name in PACKAGES}
    installed = {name: text for name, text in found.items() if text is not None}
    return {"medseg-nca": medseg_nca.__version__, **installed}


def git_commit(folder: Path | None = None) -> str | None:
    """Return the commit that is checked out, with ``-dirty`` if tracked files differ from it.

    Args:
        folder: any folder of the repository; by default that of this package.

    Returns:
        None if the package was installed without its repository, or git is missing.
    """
    where = folder or Path(medseg_nca.__file__).resolve().parent
    # An installed package may lie inside the repository of another project.
    if folder is None and _git(where, "ls-files", "__init__.py") != "__init__.py":
        return None
    commit = _git(where, "rev-parse", "HEAD")
    if not commit:
        return None
    return f"{commit}-dirty" if _git(where, "status", "--porcelain", "-uno") else commit


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *command],
            cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
