"""Choose the MLflow store, and make a quiet client for it.

No function here changes MLflow's global state (active run, global tracking URI). Every call names
its store, so our code can share a process with other code that uses MLflow.

The store is the first of these that is given: the argument, the environment variable
``MLFLOW_TRACKING_URI``, and ``mlflow.db`` (SQLite) in the current folder, with its files in
``mlartifacts`` beside it. The command ``mlflow ui``, started in that folder, shows the same store.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.errors import TrackingError
from medseg_nca.tracking.packages import missing_package

if TYPE_CHECKING:
    from mlflow import MlflowClient

URI_VARIABLE = "MLFLOW_TRACKING_URI"
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
SQLITE = "sqlite:///"
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")

NO_STORE = (
    "Name the store with --tracking-uri or MLFLOW_TRACKING_URI; without them it is mlflow.db in "
    "the current folder. The first `medseg-nca train` or `medseg-nca models register` makes it."
)

# A password may contain "/" and "@". Secrets in the query of a URI are hidden too.
CREDENTIALS = re.compile(r"//(?:[^/\s:@]*:\S*|[^/\s@]*)@")
SECRETS = re.compile(
    r"(?i)\b(password|passwd|pwd|passfile|sslpassword|secret|token|sig|odbc_connect|"
    r"\w*(?:password|secret|token)\w*)=[^&\s\"']+"
)
REASON_LENGTH = 200

# MLflow's own patience with a dead server (7 tries, each up to 2 minutes) would stop a training
# for a quarter of an hour. Values that are set in the environment are kept.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def store_uri(uri: str | None = None) -> str:
    """Return the URI of the store to use; that of a SQLite file has an absolute path.

    Args:
        uri: any URI that MLflow knows, or the path of a SQLite file that ends in ``.db``. None
            takes the store of the environment, or else the default.

    Raises:
        TrackingError: if ``uri`` names no kind of store that MLflow 3 supports.
    """
    given = uri or os.environ.get(URI_VARIABLE) or DATABASE
    scheme, separator, rest = given.partition(":")
    if given.endswith(".db") and not separator:
        return _sqlite(Path(given))
    if given.startswith(SQLITE):
        return _sqlite(Path(given.removeprefix(SQLITE)))
    if scheme.partition("+")[0] not in SCHEMES or not (separator or scheme == "databricks"):
        raise TrackingError(
            f"{shown(given)!r} is not a tracking store.",
            hint="Use sqlite:///PATH/mlflow.db, http(s)://HOST:PORT or a database URI such as "
            "postgresql://HOST/NAME. MLflow 3 no longer keeps runs in plain folders.",
        )
    if scheme in {"http", "https"} and len(rest) < len("//x"):
        raise TrackingError(f"{given!r} names no host.", hint="For example http://localhost:5000.")
    return given


def _sqlite(path: Path) -> str:
    return SQLITE + path.expanduser().absolute().as_posix()


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite store; None for any other store."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def shown(uri: str) -> str:
    """Return a URI, or a text with URIs, without user names and passwords, for the log."""
    return SECRETS.sub(r"\1=...", CREDENTIALS.sub("//", uri))


def quiet() -> None:
    """Turn off messages of MLflow and Alembic, and let MLflow give up early on a dead server."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)


def connect(uri: str, *, create: bool = False) -> MlflowClient:
    """Return a client of a store, after checking that the store answers.

    Args:
        uri: URI of the store.
        create: whether a missing file of a SQLite store is created; false for callers that only
            read.

    Raises:
        TrackingError: if there is no such store, or it cannot be reached, cannot be written or has
            another MLflow version.
        StorePackageError: if the store needs a package that is not installed.
    """
    quiet()
    file = sqlite_file(uri)
    with store_errors(f"The tracking store {shown(uri)} cannot be used"), no_warnings():
        if file is not None:
            _probe(file, create)
        from mlflow import MlflowClient

        quiet()  # importing MLflow sets its log level
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def _probe(file: Path, create: bool) -> None:
    """Check a SQLite file before MLflow opens it.

    MLflow would try for minutes to open a bad file, and would add its tables to any other database.

    Raises:
        TrackingError: if the file is missing (unless ``create``) or has no tables of MLflow.
    """
    if create:
        file.parent.mkdir(parents=True, exist_ok=True)
    elif not file.is_file():
        raise TrackingError(f"{file}: there is no tracking store.", hint=NO_STORE)
    with closing(sqlite3.connect(file, timeout=5)) as probe:
        names = {name for (name,) in probe.execute("SELECT name FROM sqlite_master")}
    if "experiments" not in names and (names or not create):
        raise TrackingError(f"{file}: is a file without MLflow's tables.", hint=NO_STORE)


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, which is created if it does not exist.

    The files of a SQLite store go to ``mlartifacts`` beside it; other stores have their own place.

    Raises:
        TrackingError: if the store refuses the request, or the experiment was deleted.
    """
    with store_errors(f"Experiment {name!r} cannot be used"):
        found = client.get_experiment_by_name(name)
        if found is None:
            file = sqlite_file(client.tracking_uri)
            place = None if file is None else (file.parent / ARTIFACTS).as_uri()
            return str(client.create_experiment(name, artifact_location=place))
        if found.lifecycle_stage != "active":
            raise TrackingError(
                f"Experiment {name!r} was deleted.",
                hint=f"Restore it with `mlflow experiments restore -x {found.experiment_id}`, or "
                "name another with --set tracking.experiment=NAME.",
            )
        return str(found.experiment_id)


@contextmanager
def store_errors(what: str, hint: str | None = None) -> Iterator[None]:
    """Turn any error of a store inside the block into a TrackingError that starts with ``what``.

    If a package is missing that the store needs, it is a StorePackageError.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (
        MlflowException,
        RequestException,
        SQLAlchemyError,
        sqlite3.Error,
        OSError,
        ImportError,
    ) as error:
        missing = missing_package(error)
        if missing is not None:
            raise missing from error
        if isinstance(error, ImportError):
            raise
        default = "Check --tracking-uri and MLFLOW_TRACKING_URI; `medseg-nca doctor` looks at both."
        raise TrackingError(f"{what}: {reason(error)}.", hint=hint or default) from error


def reason(error: Exception) -> str:
    """Return the message of an error of a store, in one line and without passwords."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")
    missing = missing_package(error)
    if missing is not None:
        text = f"{missing.message.rstrip('.')} ({missing.hint})"
    text = shown(text)
    return text if len(text) <= REASON_LENGTH else text[:REASON_LENGTH] + "..."


@contextmanager
def no_warnings() -> Iterator[None]:
    """Hide warnings that MLflow's own libraries raise among themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
