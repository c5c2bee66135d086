"""Name the missing package if a store needs one that medseg-nca does not install."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medseg_nca.errors import StorePackageError

# The package to install for a module that MLflow or SQLAlchemy imports, if the names differ.
_INSTALL = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
    "botocore": "boto3",
    "azure": "azure-storage-blob azure-identity",
    "google": "google-cloud-storage",
    "databricks": "databricks-sdk",
    "cx_Oracle": "cx_Oracle",
    "pyarrow": "pyarrow",
}
_OWN = "medseg_nca"
_NOT_FOUND = re.compile(r"No module named '([\w.]+)'")
_NO_DIALECT = re.compile(r"Can't load plugin: sqlalchemy\.dialects:(\w+)(?:\.(\w+))?")


def missing_package(error: BaseException) -> StorePackageError | None:
    """Return an error that names the missing package, if a missing package is the cause.

    Libraries wrap an ``ImportError`` in errors of their own, so the causes of the error are looked
    at too. None is returned if no package is missing.
    """
    for cause in _causes(error):
        module = _module(cause)
        if module is not None and module.partition(".")[0] != _OWN:
            return _missing(module, cause)
        plugin = _NO_DIALECT.search(str(cause))
        if plugin is not None:
            driver = plugin[2] or plugin[1]
            return StorePackageError(
                f"The store needs the database driver {driver!r}, which no installed package has.",
                hint="Install the package that brings this driver, or name another one in the URI, "
                "such as postgresql+psycopg:// (pip install 'psycopg[binary]').",
            )
    return None


def _missing(module: str, cause: BaseException) -> StorePackageError:
    top = module.partition(".")[0]
    wanted = _INSTALL.get(top, top)
    name = wanted.partition("[")[0]
    if isinstance(cause, ImportError) and not isinstance(cause, ModuleNotFoundError):
        return StorePackageError(
            f"The store needs the package {name}, which is installed but cannot be loaded.",
            hint=f"Install it again: pip install --force-reinstall '{wanted}'",
        )
    said = name if name == top else f"{name} (module {module})"
    return StorePackageError(
        f"The store needs the package {said}, which is not installed.",
        hint=f"pip install {_quoted(wanted)}",
    )


def _module(error: BaseException) -> str | None:
    if isinstance(error, ImportError) and error.name:
        return error.name
    found = _NOT_FOUND.search(str(error))
    return found[1] if found else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that led to it, each once."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _quoted(wanted: str) -> str:
    """Return the text in quotes if a shell needs them."""
    return f"'{wanted}'" if "[" in wanted else wanted
