"""What an import keeps in its folder so that the same command goes on where it stopped.

``.medseg-nca/state.json`` says which folder is worked on and how; beside it lie the records of the
finished volumes. A random key of a de-identification lies there only until the import has seen
every series; after that nobody can link the data set to its origin, unless the key is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medseg_nca.errors import ConfigError, OutputError
from medseg_nca.io.atomic import write_json
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms, read_key, write_key
from medseg_nca.pipelines.dicom_case import STATE
from medseg_nca.pipelines.dicom_names import Names

Work = Literal["import", "deidentify"]

FORMAT_VERSION = 1
STATE_FILE, KEY_FILE, KEPT_KEY = "state.json", "key", "deidentify.key"
_AWAY = "Choose another folder with --out."


@dataclass(frozen=True)
class State:
    """An import that was begun.

    Attributes:
        out: folder of the data set.
        names: with the salt or the key of this data set.
        temporary: where the random key lies until the import is finished, None if there is none.
    """

    out: Path
    names: Names
    temporary: Path | None = None

    @property
    def salt(self) -> str | None:
        """What UIDs are hashed with, if it is no secret."""
        return None if self.names.hidden else self.names.secret.key.decode()

    def finish(self, keep_key: bool) -> None:
        """Forget a random key, or keep it beside the data set.

        Raises:
            OutputError: if it cannot be written.
        """
        if self.temporary is None:
            return
        if keep_key and not (self.out / KEPT_KEY).exists():
            write_key(self.out / KEPT_KEY, self.names.secret)
        with suppress(OSError):
            self.temporary.unlink(missing_ok=True)


def open_state(
    root: Path,
    out: Path,
    *,
    deidentify: bool,
    key: Pseudonyms | None = None,
    work: Work = "import",
    options: Mapping[str, Any] | None = None,
) -> State:
    """Begin an import or a de-identification of files, or go on with one.

    Args:
        root: the folder that is read.
        out: the folder that is written.
        deidentify: whether names are hidden.
        key: of the de-identification; a random one is made where it is None.
        work: what is done.
        options: plain values that all results in the folder must share.

    Raises:
        OutputError: if the folder holds something else, the import of another folder, or results
            of other options.
        ConfigError: if the key is another one, or is no longer known.
    """
    known = _read(out)
    if known is None:
        return _begin(root, out, deidentify, key, work, options)
    if known.get("work") != work:
        raise OutputError(f"{out}: holds the results of another command.", hint=_AWAY)
    if known.get("deidentified") is not deidentify:
        what = "de-identified" if known.get("deidentified") else "not de-identified"
        raise OutputError(f"{out}: holds an import that is {what}.", hint=_AWAY)
    state = _known_state(out, known, deidentify, key)
    if known.get("root") != _root_token(state.names, root):
        raise OutputError(f"{out}: holds what was made of another folder.", hint=_AWAY)
    if known.get("options") != (None if options is None else dict(options)):
        raise OutputError(f"{out}: holds what was made with other options.", hint=_AWAY)
    return state


def _begin(
    root: Path,
    out: Path,
    deidentify: bool,
    key: Pseudonyms | None,
    work: Work,
    options: Mapping[str, Any] | None,
) -> State:
    if out.is_dir() and any(path.name != STATE for path in out.iterdir()):
        raise OutputError(f"{out}: is not empty, and not by an earlier run.", hint=_AWAY)
    secret = key if deidentify and key is not None else Pseudonyms.random()
    names = Names(secret, hidden=deidentify)
    temporary = out / STATE / KEY_FILE if deidentify and key is None else None
    if temporary is not None:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # of a run that was killed before its state
        write_key(temporary, secret)
    tree: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "work": work,
        "deidentified": deidentify,
        "root": _root_token(names, root),
    }
    if options is not None:
        tree["options"] = dict(options)
    if deidentify:
        tree["key_fingerprint"] = secret.fingerprint
    else:
        tree["salt"] = secret.key.decode()
    write_json(out / STATE / STATE_FILE, tree)
    return State(out, names, temporary)


def _known_state(
    out: Path, known: Mapping[str, Any], deidentify: bool, key: Pseudonyms | None
) -> State:
    if not deidentify:
        return State(out, Names(Pseudonyms(str(known.get("salt", "")).encode())))
    temporary = None
    if key is None:
        places = (out / STATE / KEY_FILE, out / KEPT_KEY)
        place = next((path for path in places if path.is_file()), None)
        if place is None:
            raise ConfigError(
                f"{out}: is a finished data set, and the key that it was de-identified with was "
                "not kept.",
                hint="Import into another folder, with --key-file or --keep-key to be able to go "
                "on later.",
            )
        key = read_key(place)
        temporary = place if place.name == KEY_FILE else None
    if key.fingerprint != known.get("key_fingerprint"):
        raise ConfigError(f"{out}: was de-identified with another key.", hint=_AWAY)
    return State(out, Names(key, hidden=True), temporary)


def _read(out: Path) -> dict[str, Any] | None:
    path = out / STATE / STATE_FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be read ({error}).", hint=_AWAY) from error
    if not isinstance(tree, dict) or tree.get("format_version") != FORMAT_VERSION:
        raise OutputError(f"{path}: is of another version.", hint=_AWAY)
    return tree


def _root_token(names: Names, root: Path) -> str:
    return names.secret.token("root", hashlib.sha256(os.fsencode(root)).hexdigest())
