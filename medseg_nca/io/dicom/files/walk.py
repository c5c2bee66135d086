"""Find the files of a tree that may be DICOM, cheaply and without leaving the tree."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from medseg_nca.io.dicom.records import Problem


@dataclass
class FoundFiles:
    """The files of a tree.

    Attributes:
        files: regular files in the order of their paths.
        passed_over: how many entries were not looked into: ``hidden``, ``link``, ``special``.
        unreadable: folders that cannot be opened.
    """

    files: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    unreadable: dict[Path, Problem] = field(default_factory=dict)


def walk(root: Path) -> FoundFiles:
    """List the regular files below a folder, or the one file that ``root`` is.

    Hidden entries (names with a leading dot) are passed over. Links to files inside the tree are
    taken where the file itself is not found otherwise (trees managed by git-annex); links to
    folders and links out of the tree are passed over.
    """
    found = FoundFiles()
    if root.is_file():
        found.files.append(root)
        return found
    links: list[Path] = []
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            found.unreadable[folder] = Problem(
                "unreadable", f"{folder}: cannot be opened ({error.strerror or error})."
            )
            continue
        for entry in listed:
            _sort_entry(entry, found, folders, links)
    _add_links(root, links, found)
    found.files.sort()
    return found


def _sort_entry(
    entry: os.DirEntry[str], found: FoundFiles, folders: list[Path], links: list[Path]
) -> None:
    path = Path(entry.path)
    try:
        if entry.name.startswith("."):
            found.passed_over["hidden"] += 1
        elif entry.is_symlink():
            links.append(path)
        elif entry.is_dir(follow_symlinks=False):
            folders.append(path)
        elif entry.is_file(follow_symlinks=False):
            found.files.append(path)
        else:  # a pipe or a device: reading could wait for ever
            found.passed_over["special"] += 1
    except OSError:
        found.passed_over["special"] += 1


def _add_links(root: Path, links: list[Path], found: FoundFiles) -> None:
    if not links:
        return
    inside = root.resolve()
    known = {path.resolve() for path in found.files}
    for link in sorted(links):
        try:
            target = link.resolve(strict=True)
            taken = target.is_file() and target.is_relative_to(inside) and target not in known
        except (OSError, RuntimeError):  # dangling, or a loop
            taken = False
        if taken:
            known.add(target)
            found.files.append(link)
        else:
            found.passed_over["link"] += 1
