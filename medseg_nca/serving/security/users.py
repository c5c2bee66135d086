"""The users of a server: a JSON file with argon2 hashes and roles."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from medseg_nca.errors import ConfigError, DependencyError
from medseg_nca.io.atomic import write_text
from medseg_nca.suggest import unknown

# reader: looks at models, images and results. user: also sends images and labels, and sees their
# own jobs. admin: also sees the jobs of all, and the audit log.
Role = Literal["reader", "user", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@\-]{0,63}")
SHORTEST = 10
_LONGEST = 1024  # argon2 takes any length, and time for it


@dataclass(frozen=True)
class User:
    """Somebody who may log in.

    Attributes:
        name: of the user.
        role: what they may do.
        hash: of the password, argon2id, with its parameters and salt.
    """

    name: str
    role: Role
    hash: str

    def may(self, role: Role) -> bool:
        """Whether they may do what somebody of that role may."""
        return ROLES.index(self.role) >= ROLES.index(role)


class UserFile:
    """A file of users, read again when it has changed; may be used from several threads.

    Args:
        path: of the file; a missing one has no users.

    Raises:
        ConfigError: if it is no file of users.
        DependencyError: if argon2 is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import argon2
        except ImportError as error:
            raise DependencyError(
                "Users need the package argon2-cffi, which is not installed.",
                hint="pip install 'medseg-nca[serve]'",
            ) from error
        self.path, self._hasher = path, argon2.PasswordHasher()
        self._wrong = argon2.exceptions.Argon2Error, argon2.exceptions.InvalidHash
        self._lock = threading.Lock()
        # One at a time: each takes 64 MiB, and guessing gains nothing from more.
        self._hashing = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._users: dict[str, User] = {}
        self._nobody = ""
        self._read()

    def get(self, name: str) -> User | None:
        """The user of that name, as the file is now; None if there is none."""
        with self._lock:
            try:
                self._read()
            except ConfigError:
                return None  # half-edited by hand: nobody gets in until it is whole
            return self._users.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all users, sorted."""
        with self._lock:
            self._read()
            return tuple(sorted(self._users))

    def check(self, name: str, password: str) -> User | None:
        """The user if the password is theirs; it takes as long for a name that does not exist."""
        user = self.get(name)
        with self._hashing:
            if not self._nobody:
                self._nobody = self._hasher.hash("nobody's password")
            try:
                self._hasher.verify(user.hash if user else self._nobody, password[:_LONGEST])
            except self._wrong:
                return None
        return user

    def add(self, name: str, password: str, role: Role) -> None:
        """Add a user.

        Raises:
            ConfigError: if the name is taken or cannot be one, or the password is too short.
        """
        if _NAME.fullmatch(name) is None:
            raise ConfigError(
                f"{name!r} cannot be a user.", hint="Use up to 64 letters, digits and _ . @ -"
            )
        hashed = self._hash(password)
        with self._alone():
            if name in self.names:
                raise ConfigError(
                    f"{name}: there is such a user.",
                    hint="Change the password: medseg-nca user passwd",
                )
            self._store({**self._users, name: User(name, role, hashed)})

    def change(self, name: str, password: str) -> None:
        """Give a user another password; who is logged in with the old one is logged out.

        Raises:
            ConfigError: if there is no such user, or the password is too short.
        """
        hashed = self._hash(password)
        with self._alone():
            self._store({**self._users, name: User(name, self._known(name).role, hashed)})

    def remove(self, name: str) -> None:
        """Remove a user, who is logged out by it.

        Raises:
            ConfigError: if there is no such user.
        """
        with self._alone():
            self._known(name)
            self._store({known: user for known, user in self._users.items() if known != name})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from changing the file; what is read inside is the newest."""
        try:
            import fcntl
        except ImportError:  # Windows has no such locks; there one command at a time is run
            yield
            return
        place = self.path.with_name(f"{self.path.name}.lock")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigError(
                f"{place}: cannot be written ({error.strerror}).",
                hint="Name a file in a folder that is there and yours.",
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            with self._lock:
                self._stamp = None  # two writes within one tick of the clock look the same
            yield
        finally:
            os.close(handle)

    def _known(self, name: str) -> User:
        if name not in self.names:
            raise ConfigError(unknown("user", name, self._users))
        return self._users[name]

    def _hash(self, password: str) -> str:
        if not SHORTEST <= len(password) <= _LONGEST:
            raise ConfigError(f"A password has {SHORTEST} to {_LONGEST} characters.")
        hashed: str = self._hasher.hash(password)
        return hashed

    def _store(self, users: dict[str, User]) -> None:
        tree = {"users": {u.name: {"role": u.role, "hash": u.hash} for u in users.values()}}
        before = os.umask(0o077)
        try:
            write_text(self.path, json.dumps(tree, indent=2) + "\n")
        finally:
            os.umask(before)

    def _read(self) -> None:
        try:
            state = self.path.stat()
        except FileNotFoundError:
            self._stamp, self._users = None, {}
            return
        stamp = (state.st_mtime_ns, state.st_ino)
        if stamp == self._stamp:
            return
        try:
            tree: Any = json.loads(self.path.read_text(encoding="utf-8"))
            found = {
                name: User(name, entry["role"], str(entry["hash"]))
                for name, entry in tree["users"].items()
            }
            if any(user.role not in ROLES for user in found.values()):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{self.path}: is no file of users.",
                hint="Make one with `medseg-nca user add NAME --users FILE`.",
            ) from error
        self._stamp, self._users = stamp, found
