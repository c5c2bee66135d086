"""What an examination found: one finding a line, each with advice where something is to be done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class DoctorFinding:
    """One thing that was examined.

    Attributes:
        area: what it belongs to, for example "packages", "tracking" or "models".
        name: name of the thing, for example of a package.
        level: "ok", "note" (something that may be wanted is missing) or "problem".
        value: what was found.
        advice: what to do; "" if nothing needs to be done.
    """

    area: str
    name: str
    level: Level
    value: str
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """All findings of an examination."""

    findings: tuple[DoctorFinding, ...]

    @property
    def healthy(self) -> bool:
        """Whether no finding is a problem."""
        return all(finding.level != "problem" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values that ``--json`` prints."""
        return {"healthy": self.healthy, **asdict(self)}
