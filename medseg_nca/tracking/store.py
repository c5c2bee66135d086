"""Which MLflow store is used, and a quiet client for it.

Nothing here touches MLflow's global state (active run, global tracking URI): every call names its
store, so our processes can sit beside other code that uses MLflow.

The store is, in this order: the URI that is given, the variable ``MLFLOW_TRACKING_URI``, and
``mlflow.db`` (SQLite) in the current folder with the files in ``mlartifacts`` beside it. That is
where ``mlflow ui``, started in the same folder, looks too.
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

# A password may hold "/" and "@"; what a query calls a secret is one too.
CREDENTIALS = re.compile(r"//(?:[^/\s:@]*:\S*|[^/\s@]*)@")
SECRETS = re.compile(
    r"(?i)\b(password|passwd|pwd|passfile|sslpassword|secret|token|sig|odbc_connect|"
    r"\w*(?:password|secret|token)\w*)=[^&\s\"']+"
)
REASON_LENGTH = 200

# MLflow's own patience with a dead server (7 tries, each up to 2 minutes) would stop a training
# for a quarter of an hour. Whoever sets these variables is obeyed.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def store_uri(uri: str | None = None) -> str:
    """Return the store that is meant, a SQLite file by its absolute path.

    Args:
        uri: any URI that MLflow knows, or the path of a SQLite file that ends in ``.db``; None
            takes the environment's, else the default.

    Raises:
        TrackingError: if it is no URI of a store that MLflow 3 has.
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
    """Return the file of a SQLite store, None for any other store."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def shown(uri: str) -> str:
    """Return the URI, or a text with URIs, as it may be logged: without user name and password."""
    return SECRETS.sub(r"\1=...", CREDENTIALS.sub("//", uri))


def quiet() -> None:
    """Stop MLflow and Alembic from chatting, and give up early on a dead server."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)


def connect(uri: str, *, create: bool = False) -> MlflowClient:
    """Return a client of a store that answers.

    Args:
        uri: of the store.
        create: make the file of a SQLite store, if it is missing; whoever only asks never does.

    Raises:
        TrackingError: if there is no such store, it cannot be reached, cannot be written or is of
            another MLflow version; StorePackageError if it needs a package that is missing.
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
    """Fail where MLflow would try for minutes, or fill an empty or a strange file with tables."""
    if create:
        file.parent.mkdir(parents=True, exist_ok=True)
    elif not file.is_file():
        raise TrackingError(f"{file}: there is no tracking store.", hint=NO_STORE)
    with closing(sqlite3.connect(file, timeout=5)) as probe:
        names = {name for (name,) in probe.execute("SELECT name FROM sqlite_master")}
    if "experiments" not in names and (names or not create):
        raise TrackingError(f"{file}: is a file without MLflow's tables.", hint=NO_STORE)


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, created when it is missing.

    Files of a SQLite store go to ``mlartifacts`` beside it; other stores decide for themselves.

    Raises:
        TrackingError: if the store refuses.
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
    """Turn whatever a store raises into a TrackingError that starts with ``what``.

    A package that the store needs and that is not installed is a StorePackageError.
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
    """Return what an error of a store says, in one line and without passwords."""
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
