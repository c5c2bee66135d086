"""Write a project of one's own: all of its folder, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import atomic_folder
from medseg_nca.scaffold.names import ProjectNames, names_of
from medseg_nca.scaffold.notebook import notebook_of
from medseg_nca.scaffold.templates_of import templates_of

# Templates of files whose names would mean something to the tools that look at this package.
_RENAMED = {"gitignore": ".gitignore"}
_NOTEBOOK = "notebook.py"


@dataclass(frozen=True)
class Project:
    """A project that was written.

    Attributes:
        folder: its folder.
        names: what it is called.
        files: paths of its files, relative to the folder, sorted.
    """

    folder: Path
    names: ProjectNames
    files: tuple[str, ...]


def create_project(folder: Path, task: str, dims: int) -> Project:
    """Write a project.

    Args:
        folder: the folder to make; its name becomes that of the project. All of it appears at once.
        task: registered name of the task that the project learns.
        dims: number of axes of its images, 2 or 3.

    Raises:
        OutputError: if something of that name exists, or the folder cannot be written.
        ConfigError: if the name is none for a package, or the task has no templates.
    """
    _check_free(folder)
    names = names_of(folder)
    templates = templates_of(task, dims)
    words = {
        "title": names.title, "package": names.package, "distribution": names.distribution,
        "task": task, "dims": str(dims),
    }  # fmt: skip
    written = []
    with atomic_folder(folder) as part:
        for path, text in templates.filled(words):
            if path == _NOTEBOOK:
                path, text = "notebook.ipynb", notebook_of(text)
            file = part / _RENAMED.get(path, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
            written.append(file.relative_to(part).as_posix())
        _check_free(folder)  # somebody may have made it in the meantime
    return Project(folder, names, tuple(sorted(written)))


def _check_free(folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        raise OutputError(
            f"{folder}: exists already, and is left as it is.",
            hint="Name a folder that does not exist.",
        )
