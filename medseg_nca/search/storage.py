"""The storage of a search: a database that holds every trial, and is the truth about them.

SQLite serves the processes of one machine, PostgreSQL (or another server that SQLAlchemy knows)
those of several. A storage that does not answer is asked again for some time.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.engine import Engine
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from medseg_nca.errors import ConfigError, DependencyError, MedsegError
from medseg_nca.tracking.store import SQLITE, reason, shown, sqlite_file

logger = logging.getLogger(__name__)

R = TypeVar("R")

DATABASE = "search.db"
# Seconds for which a storage that does not answer is asked again; the variable sets others.
PATIENCE, PATIENCE_VARIABLE = 60.0, "MEDSEG_SEARCH_PATIENCE"
# Seconds at most for one that has not answered yet: its address or its password may be wrong.
_FIRST_PATIENCE = 10.0
_KEPT = "The trials in it are kept: once it answers, the same command goes on from there."
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
# Seconds that a process waits for another that writes to the same SQLite file.
_BUSY = 60
_POSTGRES = re.compile(r"^postgres(?:ql)?://")


class SearchStorageError(MedsegError):
    """The storage of a search does not answer, or is not one."""


class SearchStorage:
    """A storage, whose calls are repeated while it does not answer.

    Args:
        url: URL of the database. The password in it is in no message.
        create: whether the database is made where there is none.

    Attributes:
        rdb: the storage as Optuna knows it.
        name: the URL without its password, for messages.

    Raises:
        SearchStorageError: if the database does not answer, or there is none.
        ConfigError: if the URL is none, or the database belongs to another program; it is left as
            it is.
        DependencyError: if the driver of the database is not installed.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        quiet()
        self.name = shown(url)
        self.patience = _patience()
        file = sqlite_file(url)
        if file is not None and not create and not file.is_file():
            raise SearchStorageError(
                f"{file}: there is no such storage.",
                hint="Name the folder of a search, or its storage with --storage.",
            )
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        first = min(self.patience, _FIRST_PATIENCE)
        self.rdb: RDBStorage = self.call(lambda: _open(url, file, create), first)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Change several rows at once: all of the block's changes are kept, or none.

        Raises:
            SQLAlchemyError: if the database does not answer; nothing is changed then.
        """
        with self.rdb.scoped_session.session_factory() as session, session.begin():
            yield session

    def call(self, function: Callable[[], R], patience: float | None = None) -> R:
        """Call a function that uses the storage; call it again while the storage does not answer.

        Args:
            function: the function.
            patience: seconds to go on asking; None takes those of the storage.

        Raises:
            SearchStorageError: if the storage does not answer for the whole patience.
        """
        patience = self.patience if patience is None else patience
        start, pause, told = time.monotonic(), _FIRST_PAUSE, False
        while True:
            try:
                return function()
            except (StorageInternalError, SQLAlchemyError) as error:
                cause = _cause(error)
                over = time.monotonic() - start + pause > patience
                if over or _is_no_database(error):
                    raise SearchStorageError(
                        f"The storage {self.name} does not answer: {cause}.",
                        hint=_KEPT,
                    ) from None  # the cause may hold the URL with its password
                if not told:
                    logger.warning(
                        "The storage %s does not answer (%s); it is asked again for %g s.",
                        self.name, cause, patience,
                    )  # fmt: skip
                    told = True
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


@contextmanager
def told_plainly(name: str) -> Iterator[None]:
    """Turn what a storage raises inside the block, in the calls that are not repeated, into words.

    Raises:
        SearchStorageError: if the storage, of that name, does not answer.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        raise SearchStorageError(
            f"The storage {name} does not answer: {_cause(error)}.", hint=_KEPT
        ) from None


def storage_url(given: str | None, folder: Path) -> str:
    """Return the URL of a storage: the one that is given, or the SQLite file in a folder.

    Raises:
        ConfigError: if what is given is no URL of a database.
    """
    if given is None:
        return SQLITE + (folder / DATABASE).absolute().as_posix()
    if given.endswith(".db") and "://" not in given:
        return SQLITE + Path(given).expanduser().absolute().as_posix()
    if given.startswith(SQLITE):
        return SQLITE + Path(given.removeprefix(SQLITE)).expanduser().absolute().as_posix()
    if "://" not in given:
        raise ConfigError(
            f"--storage {shown(given)}: is no URL of a database.",
            hint="Write sqlite:///PATH.db, or postgresql://USER@HOST/NAME.",
        )
    return _POSTGRES.sub("postgresql+psycopg://", given)


def quiet() -> None:
    """Turn off the messages of Optuna and Alembic."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)


def _open(url: str, file: Path | None, create: bool) -> RDBStorage:
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    if file is not None:
        arguments["connect_args"] = {"timeout": _BUSY}
    elif url.startswith("postgresql"):
        arguments["connect_args"] = {"connect_timeout": 10}
    try:
        _check_tables(url, arguments, create)
        storage = RDBStorage(url, engine_kwargs=arguments)
    except RuntimeError as error:
        raise ConfigError(
            f"The storage {shown(url)} was made by another version of Optuna ({reason(error)}).",
            hint="Use the version that made it, or name another database.",
        ) from None
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            f"--storage {shown(url)}: is no URL of a database ({_cause(error)}).",
            hint="Write sqlite:///PATH.db, or postgresql://USER@HOST/NAME.",
        ) from None
    except ImportError as error:
        raise DependencyError(
            f"The storage {shown(url)} needs a driver that is not installed ({_cause(error)}).",
            hint="pip install 'medseg-nca[search]' brings that of PostgreSQL.",
        ) from None
    if file is not None:
        _take_turns(storage.engine)
    return storage


def _check_tables(url: str, arguments: dict[str, Any], create: bool) -> None:
    """Look at a database before Optuna adds its tables to it.

    Raises:
        ConfigError: if it belongs to another program, or holds no search and none may be made.
    """
    engine = create_engine(url, **arguments)
    try:
        tables = set(inspect(engine).get_table_names())
    finally:
        engine.dispose()
    # MLflow keeps the version of its tables where Optuna would keep that of its own.
    if "alembic_version" in tables and "version_info" not in tables:
        raise ConfigError(
            f"The storage {shown(url)} is the database of another program, such as MLflow.",
            hint="Name a database of its own for searches.",
        )
    if not create and "studies" not in tables:
        raise ConfigError(
            f"{shown(url)}: holds no search.",
            hint="Name the folder of a search, or its storage with --storage.",
        )


def _take_turns(engine: Engine) -> None:
    """Let a transaction of SQLite lock the file from its start.

    Without this, two processes may both read that a trial waits, and both begin it.
    """

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # Python begins no transactions of its own

    @event.listens_for(engine, "begin")
    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections that were made before


def _is_no_database(error: BaseException) -> bool:
    """Return whether a file is there that is no database; asking again changes nothing."""
    inner = error.__cause__ if isinstance(error, StorageInternalError) else error
    return type(inner) is DatabaseError


def _cause(error: BaseException) -> str:
    inner = error.__cause__ if isinstance(error, StorageInternalError) else None
    found = inner or error
    original = getattr(found, "orig", None) or found
    return reason(original if isinstance(original, Exception) else Exception(str(original)))


def _patience() -> float:
    text = os.environ.get(PATIENCE_VARIABLE, "")
    try:
        return max(float(text), 0.0)
    except ValueError:
        return PATIENCE
