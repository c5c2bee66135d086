"""Which templates a task's projects are made of: ours, and those that other packages bring.

A folder of templates holds ``words.yaml`` and files that end in ``.tmpl``. A file's place in the
project is its place in the folder, with ``PACKAGE`` replaced by the name of the package. In the
text, ``{{word}}`` is replaced: ``title``, ``package``, ``distribution``, ``task`` and ``dims``
belong to every project, all others are the entries of ``words.yaml``, which may be made of other
words. The entries ``2d`` and ``3d`` are mappings with the words of projects of so many axes.

Another package adds a task's templates by an entry point that names the package of the folder::

    [project.entry-points."medseg_nca.project_templates"]
    my_task = "my_package.templates"        # my_package/templates/words.yaml, .../src/PACKAGE/...
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from medseg_nca.config.presets import read_yaml
from medseg_nca.errors import ConfigError
from medseg_nca.registry import Entries
from medseg_nca.suggest import unknown

SUFFIX = ".tmpl"
WORDS = "words.yaml"
PLACE = "PACKAGE"
_COMMON = "common"
_OWN = Path(__file__).with_name("templates")
_OTHERS = Entries("medseg_nca.project_templates", "project templates")
_WORD = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Templates:
    """The templates of one task.

    Attributes:
        folders: folders of templates; a file of a later one replaces that of an earlier one.
        words: text of each word, in which the words of the project are not yet replaced.
    """

    folders: tuple[Path, ...]
    words: Mapping[str, str]

    def filled(self, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Yield path and text of each file of a project.

        Args:
            names: the words that belong to every project.

        Raises:
            ConfigError: if a template has a word that is not known; the message names the file.
        """
        words = {**self.words, **names}
        found = {
            file.relative_to(folder).as_posix(): file
            for folder in self.folders
            for file in sorted(folder.rglob(f"*{SUFFIX}"))
        }
        for path, file in sorted(found.items()):
            place = path.removesuffix(SUFFIX).replace(PLACE, names["package"])
            yield place, _fill(file.read_text(encoding="utf-8"), words, str(file))


def template_tasks() -> tuple[str, ...]:
    """Return the names of the tasks whose projects have templates, sorted."""
    own = {file.parent.name for file in _OWN.glob(f"*/{WORDS}")}
    return tuple(sorted({*own, *_OTHERS.names} - {_COMMON}))


def templates_of(task: str, dims: int) -> Templates:
    """Return the templates of a task's projects.

    Raises:
        ConfigError: if there are none, or their words are damaged.
        PluginError: if they are another package's and cannot be used.
    """
    if task not in template_tasks():
        raise ConfigError(unknown("task of a project", task, template_tasks()))
    folder = _OWN / task
    if not folder.is_dir():
        folder = _OTHERS.find(task).file(WORDS).parent
    words: dict[str, str] = {}
    for place in (_OWN / _COMMON, folder):
        tree = read_yaml(place / WORDS)
        by_dims = {number: tree.pop(f"{number}d", {}) for number in (2, 3)}
        for name, text in {**tree, **by_dims[dims]}.items():
            words[name] = str(text)
    return Templates((_OWN / _COMMON, folder), words)


def _fill(text: str, words: Mapping[str, str], source: str) -> str:
    """Replace the words in a text; a word that stands alone on its line keeps its indentation."""

    def word(match: re.Match[str]) -> str:
        name = match[1]
        if name not in words:
            raise ConfigError(f"{source}: {unknown('word', name, words)}")
        # Words may be made of others, but not of themselves.
        others = {key: value for key, value in words.items() if key != name}
        found = _fill(words[name], others, f"{source}: {name}")
        before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        return found.replace("\n", f"\n{before}") if before.isspace() else found

    return _WORD.sub(word, text)
