"""A spool belongs to one node at a time, wherever its jobs are."""

from __future__ import annotations

import os
from pathlib import Path

from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.serving.jobs.disk import only_one
from tests.tracking.tiny import save_tiny


def test_a_second_node_on_a_spool_is_refused(tmp_path: Path) -> None:
    """The first one runs within a server, and so has its jobs elsewhere."""
    save_tiny(tmp_path / "tiny")
    spool = tmp_path / "spool"
    spool.mkdir()
    guard = only_one(spool / "node.lock")
    try:
        result = CliRunner().invoke(
            cli,
            ["dicom-node", "--spool", str(spool), "--port", "0", "--device", "cpu", "--allow",
             "A@127.0.0.1", "--route", f"-> {tmp_path / 'tiny'}"],
        )  # fmt: skip
    finally:
        os.close(guard)
    assert result.exit_code == 2, result.output
    assert "another server or node uses this folder" in " ".join(result.output.split())
