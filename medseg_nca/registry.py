"""One mechanism for everything that is added by dropping a file into a folder.

The registered name is the file's name; the module is imported when it is asked for, so listing
what exists costs nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cached_property
from typing import Any

from medseg_nca.errors import MedsegError
from medseg_nca.suggest import unknown


class ModuleRegistry:
    """Find things by name in the modules of one package.

    Args:
        package: dotted name of the package whose modules are the entries.
        attribute: the name that every such module must define.
        kind: how error messages call an entry ("model", "writer", ...).
        exclude: module names that are not entries.
        error: the error raised for an unknown name.
    """

    def __init__(
        self,
        package: str,
        attribute: str,
        kind: str,
        *,
        exclude: tuple[str, ...] = (),
        error: type[MedsegError] = MedsegError,
    ) -> None:
        self.package = package
        self.attribute = attribute
        self.kind = kind
        self.exclude = exclude
        self.error = error

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The registered names, sorted; no entry is imported."""
        path = importlib.import_module(self.package).__path__
        found = (module.name for module in pkgutil.iter_modules(path))
        return tuple(sorted(n for n in found if not n.startswith("_") and n not in self.exclude))

    def get(self, name: str) -> Any:
        """Return the attribute of the module called ``name``.

        Raises:
            MedsegError: (or the given subclass) if there is no such entry.
        """
        if name not in self.names:
            raise self.error(unknown(self.kind, name, self.names))
        module = importlib.import_module(f"{self.package}.{name}")
        return getattr(module, self.attribute)
