"""Stable stand-ins for what identifies a patient, made with a secret key (HMAC-SHA256).

With the same key the same original always gets the same stand-in, on every machine and in every
process; without the key nobody can tell which original a stand-in belongs to, not even by trying
all patient numbers.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from medseg_nca.errors import ConfigError, OutputError

ENVIRONMENT = "MEDSEG_NCA_DEID_KEY"
# Shorter secrets can be found by trying.
SHORTEST_KEY = 16
_LONGEST_SHIFT_DAYS = 3650


@dataclass(frozen=True)
class Pseudonyms:
    """What replaces UIDs, patients and dates under one secret key.

    Attributes:
        key: the secret, at least 16 bytes.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < SHORTEST_KEY:
            raise ConfigError(
                f"The key of the de-identification has {len(self.key)} bytes; it needs at least "
                f"{SHORTEST_KEY}.",
                hint="Make one: openssl rand -hex 32",
            )

    @classmethod
    def random(cls) -> Self:
        """A new key: nobody can link the results to those of another run."""
        return cls(secrets.token_hex(32).encode())

    def uid(self, original: str) -> str:
        """A UID under 2.25 (PS3.5 B.2); the root and the parts of the original are not in it."""
        digest = bytearray(self._digest("uid", original.strip(" \0"))[:16])
        digest[6] = digest[6] & 0x0F | 0x80  # a UUID of the reader's own making (RFC 9562, v8)
        digest[8] = digest[8] & 0x3F | 0x80
        return f"2.25.{uuid.UUID(bytes=bytes(digest)).int}"

    def patient(self, patient_id: str) -> str:
        """``P-`` and twelve hexadecimal digits; used as PatientID and as PatientName."""
        return f"P-{self._digest('patient', patient_id.strip()).hex()[:12]}"

    def name(self, kind: str, text: str) -> str:
        """Twelve hexadecimal digits for anything else, for example a file's place in its tree."""
        return self._digest(kind, text).hex()[:12]

    def token(self, kind: str, text: str) -> str:
        """Thirty-two hexadecimal digits, where two originals must never get the same."""
        return self._digest(kind, text).hex()[:32]

    def days(self, patient_id: str) -> int:
        """By how many days all dates of a patient are moved into the past: 1 to 3650."""
        number = int.from_bytes(self._digest("days", patient_id.strip())[:8])
        return 1 + number % _LONGEST_SHIFT_DAYS

    @property
    def fingerprint(self) -> str:
        """Tells keys apart without giving them away."""
        return self._digest("fingerprint", "").hex()[:16]

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.new(self.key, f"{kind}\0{text}".encode(), hashlib.sha256).digest()


def read_key(path: Path) -> Pseudonyms:
    """Read a key file: all of its content, without spaces at the ends, is the secret.

    Raises:
        ConfigError: if it is missing, too short, or can be read by other users.
    """
    try:
        mode = path.stat().st_mode
        content = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{path}: the key cannot be read ({error.strerror}).") from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"{path}: other users can read this key, and with it undo the de-identification.",
            hint=f"chmod 600 {path}",
        )
    return Pseudonyms(content)


def write_key(path: Path, pseudonyms: Pseudonyms) -> None:
    """Write a key into a file that only its owner can read.

    Raises:
        OutputError: if it cannot be written, or is there already.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise OutputError(f"{path}: the key cannot be written ({error.strerror}).") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pseudonyms.key)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise OutputError(f"{path}: the key cannot be written ({error.strerror}).") from error


def find_key(path: Path | None) -> Pseudonyms | None:
    """The key that the caller named: a file, or the variable ``MEDSEG_NCA_DEID_KEY``.

    Raises:
        ConfigError: if it cannot be used.
    """
    if path is not None:
        return read_key(path)
    text = os.environ.get(ENVIRONMENT, "").strip()
    return Pseudonyms(text.encode()) if text else None
