"""What libraries print and log may hold names and values of a client's files: it goes nowhere."""

from __future__ import annotations

import logging
import warnings

# Parts of this package that speak of files by their names, and packages that quote their values or
# the addresses of series.
_OF_FILES = ("medseg_nca.io", "medseg_nca.cases", "medseg_nca.datasets", "pydicom", "highdicom",
             "pynetdicom", "httpx", "httpcore")  # fmt: skip


def quiet_server() -> None:
    """For the process of the server, whose own log stays."""
    warnings.simplefilter("ignore")
    for name in _OF_FILES:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # A client is told already that its form is broken.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def quiet_worker() -> None:
    """For a worker; what the library warns of while it computes goes to the client alone."""
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
