"""The doctor's findings on the set-up of a server or a node."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from medseg_nca.cli.main import cli


@dataclass(frozen=True)
class Doctor:
    """``medseg-nca doctor``.

    Attributes:
        what: the flag that says what is examined, ``--serve`` or ``--node``.
    """

    what: str

    def invoke(self, *args: str) -> tuple[int, str]:
        """Call the command with a port that is free, unless another is named."""
        port = () if "--port" in args else ("--port", "0")
        result = CliRunner().invoke(cli, ["doctor", self.what, "--device", "cpu", *port, *args])
        return result.exit_code, result.stdout

    def findings(self, *args: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """Findings by area and name; of those that are problems each says what to do."""
        code, out = self.invoke(*args, "--json")
        tree = json.loads(out)
        found = {f"{f['area']}.{f['name']}": f for f in tree["findings"]}
        assert tree["healthy"] is (code == 0)
        assert all(f["advice"] for f in found.values() if f["level"] == "problem")
        return code, found

    def level(self, name: str, *args: str) -> tuple[str, str]:
        """Level of one finding, and what was found."""
        finding = self.findings(*args)[1][name]
        return finding["level"], finding["value"]
