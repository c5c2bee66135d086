"""One mechanism for everything that is added by a file in a folder, or by an installed package.

In the library the registered name is the file's name. A package that somebody else wrote registers
an entry point in the group of the kind, for example in its ``pyproject.toml``::

    [project.entry-points."medseg_nca.engines"]
    mine = "my_package.engine"          # a module that defines ENGINE, or "my_package.engine:NAME"

Nothing is imported before it is asked for, so listing what exists costs nothing, and an entry that
is broken harms only those who use it. A name that the library has is the library's: the entry of
the other package is left out, and a warning says so when the name is used.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

from medseg_nca.errors import MedsegError, PluginError
from medseg_nca.suggest import unknown

# The seam that the entries of a folder implement; it is no entry.
_SEAM = "base"
_PREFIX = "medseg_nca."
_BROKEN_HINT = "Mend or uninstall that package; without it everything else works."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """An entry point of an installed package.

    Attributes:
        group: the kind, for example ``medseg_nca.engines``.
        name: the registered name.
        value: ``package.module`` or ``package.module:attribute``.
        package: name and version of the installed package.
    """

    group: str
    name: str
    value: str
    package: str

    def __str__(self) -> str:
        return f"{self.name!r} of the package {self.package} ({self.group}: {self.value})"

    def load(self, attribute: str) -> Any:
        """Import the module and return what it defines.

        Args:
            attribute: what is taken from the module where the value names nothing.

        Raises:
            PluginError: naming the package, if the import fails or the attribute is missing.
        """
        module, _, named = self.value.partition(":")
        try:
            found: Any = importlib.import_module(module.strip())
            for part in (named.strip() or attribute).split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:  # anything may happen in a module of others
            raise self.broken(f"{type(error).__name__}: {error}") from error
        return found

    def file(self, name: str) -> Path:
        """Return a file of the package that the value names, which is imported.

        Raises:
            PluginError: naming the package, if it cannot be imported or has no such file.
        """
        try:
            found = files(self.value.strip()).joinpath(name)
        except (Exception, SystemExit) as error:  # anything may happen in a module of others
            raise self.broken(f"{type(error).__name__}: {error}") from error
        if not found.is_file():
            raise self.broken(f"there is no {name} in {self.value}")
        return Path(str(found))

    def broken(self, reason: str) -> PluginError:
        """An error that names the package and what is wrong with its entry."""
        return PluginError(f"{self} cannot be used: {reason}.", hint=_BROKEN_HINT)


@cache
def installed_entries() -> tuple[Entry, ...]:
    """Every entry point of installed packages whose group begins with ``medseg_nca.``.

    The first package of a name on ``sys.path`` counts, as when it is imported. A package whose
    name, version or list of entry points cannot be read is left out with a warning.
    """
    found: list[Entry] = []
    packages = set()
    for package in metadata.distributions():
        try:
            text = package.read_text("entry_points.txt")
            if text is None or _PREFIX not in text:
                continue
            name = package.metadata["Name"]
            if name in packages:
                continue
            packages.add(name)
            title = f"{name} {package.version}"
            points = [p for p in package.entry_points if p.group.startswith(_PREFIX)]
            found += [Entry(p.group, p.name, p.value, title) for p in points]
        except Exception as error:  # whatever strange files make of the parsers
            # The name may be what cannot be read; the folder of these files is always known.
            folder = getattr(package, "_path", package)
            log.warning("The entry points of the package in %s cannot be read: %s.", folder, error)
    return tuple(found)


class Entries:
    """The entries that installed packages add to one group, by name."""

    def __init__(self, group: str, kind: str) -> None:
        self.group = group
        self.kind = kind

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The registered names, sorted; nothing is imported."""
        return tuple(sorted({e.name for e in installed_entries() if e.group == self.group}))

    def claims(self, name: str) -> tuple[Entry, ...]:
        """The entries of one name; more than one if several packages claim it."""
        return tuple(e for e in installed_entries() if e.group == self.group and e.name == name)

    def find(self, name: str) -> Entry:
        """Return the entry of a name in :attr:`names`.

        Raises:
            PluginError: if several packages claim the name.
        """
        claims = self.claims(name)
        if len(claims) > 1:
            packages = " and ".join(claim.package for claim in claims)
            raise PluginError(
                f"The {self.kind} {name!r} is in several packages: {packages}.",
                hint="Uninstall all but one of them.",
            )
        return claims[0]

    def warn_if_hidden(self, name: str) -> None:
        """Say that an entry is left out because the library has the name."""
        for entry in self.claims(name):
            _say_once(f"The {self.kind} {name!r} is the library's own; left out is {entry}.")


class PluginRegistry:
    """Find things by name: in the modules of one package, and in installed packages.

    A module called ``base`` and modules whose names begin with an underscore are no entries.

    Args:
        package: dotted name of the package whose modules are the entries.
        group: of the entry points of other packages.
        attribute: the name that every such module must define.
        kind: how error messages call an entry ("model", "writer", ...).
        fits: whether what a module defines can be an entry; what does not fit is refused.
        error: the error raised for an unknown name.
    """

    def __init__(
        self,
        package: str,
        group: str,
        attribute: str,
        kind: str,
        *,
        fits: Callable[[Any], bool] = callable,
        error: type[MedsegError] = MedsegError,
    ) -> None:
        self.package = package
        self.attribute = attribute
        self.kind = kind
        self.fits = fits
        self.error = error
        self.others = Entries(group, kind)

    @cached_property
    def own_names(self) -> tuple[str, ...]:
        """The names of the modules in the library, sorted."""
        # The folder is looked for in the file system: finding the package by importlib would import
        # those around it.
        top, *inside = self.package.split(".")
        folders = [str(Path(p, *inside)) for p in importlib.import_module(top).__path__]
        found = (module.name for module in pkgutil.iter_modules(folders))
        return tuple(sorted(n for n in found if not n.startswith("_") and n != _SEAM))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The registered names, sorted; no entry is imported."""
        return tuple(sorted({*self.own_names, *self.others.names}))

    def get(self, name: str) -> Any:
        """Return what the entry called ``name`` defines.

        Raises:
            MedsegError: (or the given subclass) if there is no such entry.
            PluginError: if it belongs to another package and cannot be used.
        """
        if name in self.own_names:
            self.others.warn_if_hidden(name)
            module = importlib.import_module(f"{self.package}.{name}")
            return getattr(module, self.attribute)
        if name not in self.names:
            raise self.error(unknown(self.kind, name, self.names))
        entry = self.others.find(name)
        found = entry.load(self.attribute)
        if not self.fits(found):
            raise entry.broken(f"a {type(found).__name__} is no {self.kind}")
        return found

    def usable(self) -> Iterator[tuple[str, Any]]:
        """Every name and what its entry defines; a broken one is left out with a warning."""
        for name in self.names:
            try:
                yield name, self.get(name)
            except PluginError as error:
                _say_once(str(error))


@cache
def _say_once(text: str) -> None:
    log.warning("%s", text)
