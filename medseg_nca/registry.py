"""One mechanism for all plug-ins: each is a file in a folder, or comes from an installed package.

In the library the registered name is the file's name. Another package registers an entry point in
the group of its kind of plug-in, for example in its ``pyproject.toml``::

    [project.entry-points."medseg_nca.engines"]
    mine = "my_package.engine"          # a module that defines ENGINE, or "my_package.engine:NAME"

In a notebook or a script, :func:`add_entry` does the same for the running process::

    add_entry("medseg_nca.perceptions", "mine", MyPerception)

An entry is imported only when it is used, so listing the names is quick, and a broken entry matters
only to those who use it. If the library and another package register the same name, the library's
entry is used, and a warning says so when the name is used.
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

# The module that defines the interface of a folder's entries; it is no entry itself.
_SEAM = "base"
_PREFIX = "medseg_nca."
_BROKEN_HINT = "Mend or uninstall that package; without it everything else works."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """An entry point of an installed package.

    Attributes:
        group: the group of the kind of plug-in, for example ``medseg_nca.engines``.
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
            attribute: the name to take from the module if :attr:`value` gives no attribute.

        Raises:
            PluginError: if the import fails or the attribute is missing; the message names the
                package.
        """
        module, _, named = self.value.partition(":")
        try:
            found: Any = importlib.import_module(module.strip())
            for part in (named.strip() or attribute).split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:  # another package's module may raise anything
            raise self.broken(f"{type(error).__name__}: {error}") from error
        return found

    def file(self, name: str) -> Path:
        """Import the package that :attr:`value` names, and return the path of a file in it.

        Raises:
            PluginError: if the package cannot be imported or has no such file; the message names
                the package.
        """
        try:
            found = files(self.value.strip()).joinpath(name)
        except (Exception, SystemExit) as error:  # another package's module may raise anything
            raise self.broken(f"{type(error).__name__}: {error}") from error
        if not found.is_file():
            raise self.broken(f"there is no {name} in {self.value}")
        return Path(str(found))

    def broken(self, reason: str) -> PluginError:
        """Return an error that names the package and says what is wrong with its entry."""
        return PluginError(f"{self} cannot be used: {reason}.", hint=_BROKEN_HINT)


@dataclass(frozen=True)
class GivenEntry(Entry):
    """An entry that the running program added.

    Attributes:
        thing: what was added.
    """

    thing: Any = None

    def __str__(self) -> str:
        return f"{self.name!r} that was added here ({self.group})"

    def load(self, attribute: str) -> Any:
        """Return what was added."""
        return self.thing

    def broken(self, reason: str) -> PluginError:
        """Return an error that says what is wrong with what was added."""
        return PluginError(f"{self} cannot be used: {reason}.", hint="Add something that fits.")


_given: dict[tuple[str, str], GivenEntry] = {}


def add_entry(group: str, name: str, thing: Any) -> None:
    """Add a part under a name, for the running process alone.

    This is for notebooks and scripts. A part that other processes must find (commands, workers, who
    uses a trained model later) belongs into a package that names it among its entry points.

    Args:
        group: group of the entry points of such parts, for example ``medseg_nca.losses``.
        name: the name that settings use. Another part of that name that was added before, or that
            a package has, is not used; one of the library is.
        thing: what the module of such an entry point defines: a perception's class, a function that
            builds a loss, an adapter. Presets are files, and cannot be added.
    """
    _given[group, name] = GivenEntry(group, name, type(thing).__name__, "of this program", thing)


@cache
def installed_entries() -> tuple[Entry, ...]:
    """Return all entry points of installed packages whose group begins with ``medseg_nca.``.

    If ``sys.path`` has several packages of one name, the first counts, as it does for an import. A
    package whose name, version or list of entry points cannot be read is left out with a warning.
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
        except Exception as error:  # the parsers may raise anything for strange files
            # The name may be the very thing that cannot be read; the folder is always known.
            folder = getattr(package, "_path", package)
            log.warning("The entry points of the package in %s cannot be read: %s.", folder, error)
    return tuple(found)


class Entries:
    """The entries that installed packages add to one group, by name."""

    def __init__(self, group: str, kind: str) -> None:
        self.group = group
        self.kind = kind

    @property
    def names(self) -> tuple[str, ...]:
        """The registered names, sorted; nothing is imported."""
        entries = (*_given.values(), *installed_entries())
        return tuple(sorted({e.name for e in entries if e.group == self.group}))

    def claims(self, name: str) -> tuple[Entry, ...]:
        """Return the entries of one name; there are several if several packages claim the name.

        What this program added comes in the place of what packages have.
        """
        given = _given.get((self.group, name))
        if given is not None:
            return (given,)
        return tuple(e for e in installed_entries() if e.group == self.group and e.name == name)

    def find(self, name: str) -> Entry:
        """Return the entry that has the given name, one of :attr:`names`.

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
        """Warn, once for each entry, that an entry is not used because the library has its name."""
        for entry in self.claims(name):
            _say_once(f"The {self.kind} {name!r} is the library's own; left out is {entry}.")


class PluginRegistry:
    """Finds plug-ins by name: in the modules of one package, and in installed packages.

    A module called ``base`` is no entry, and neither is one whose name begins with an underscore.

    Args:
        package: dotted name of the package whose modules are the entries.
        group: the group in which other packages register entry points.
        attribute: the name that every such module must define.
        kind: how error messages call an entry ("model", "writer", ...).
        fits: returns whether an object that another package defines can be an entry; if not, its
            use is refused.
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
        # The folder is looked for in the file system, because importlib would import the packages
        # around it.
        top, *inside = self.package.split(".")
        folders = [str(Path(p, *inside)) for p in importlib.import_module(top).__path__]
        found = (module.name for module in pkgutil.iter_modules(folders))
        return tuple(sorted(n for n in found if not n.startswith("_") and n != _SEAM))

    @property
    def names(self) -> tuple[str, ...]:
        """The registered names, sorted; no entry is imported."""
        return tuple(sorted({*self.own_names, *self.others.names}))

    def check(self, name: str) -> None:
        """Check that there is an entry of a name; nothing is imported.

        Raises:
            MedsegError: (or the subclass given as ``error``) if there is no such entry.
        """
        if name not in self.names:
            raise self.error(unknown(self.kind, name, self.names))

    def get(self, name: str) -> Any:
        """Return what the entry called ``name`` defines.

        Raises:
            MedsegError: (or the subclass given as ``error``) if there is no such entry.
            PluginError: if the entry belongs to another package and cannot be used.
        """
        if name in self.own_names:
            self.others.warn_if_hidden(name)
            module = importlib.import_module(f"{self.package}.{name}")
            return getattr(module, self.attribute)
        self.check(name)
        entry = self.others.find(name)
        found = entry.load(self.attribute)
        if not self.fits(found):
            raise entry.broken(f"a {type(found).__name__} is no {self.kind}")
        return found

    def usable(self) -> Iterator[tuple[str, Any]]:
        """Yield each name and what its entry defines; a broken entry is left out with a warning."""
        for name in self.names:
            try:
                yield name, self.get(name)
            except PluginError as error:
                _say_once(str(error))


@cache
def _say_once(text: str) -> None:
    log.warning("%s", text)
