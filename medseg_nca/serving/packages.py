"""Whether the packages that a server needs are installed."""

from __future__ import annotations

from importlib.util import find_spec

from medseg_nca.errors import DependencyError

NEEDED = ("fastapi", "httpx", "uvicorn", "python_multipart")


def check_packages() -> None:
    """Find out whether a server could be started.

    Raises:
        DependencyError: naming the first package that is missing.
    """
    for package in NEEDED:
        if find_spec(package) is None:
            raise DependencyError(
                f"Serving needs the package {package}, which is not installed.",
                hint="pip install 'medseg-nca[serve]'",
            )
