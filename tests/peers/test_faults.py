"""A family of another package that fails, and how often a checkpoint is read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from medseg_nca.errors import CheckpointError, PluginError
from medseg_nca.peers.checkpoint import PeerFile, read_files
from medseg_nca.peers.families import FAMILIES
from medseg_nca.registry import add_entry
from tests.peers.test_bad_files import SAID, m3d, refused
from tests.peers.textbook import Basic


def test_a_family_of_a_package_that_fails_is_named(tmp_path: Path) -> None:
    known = type(FAMILIES.get("m3d_nca"))

    class Failing(known):  # type: ignore[misc, valid-type]
        title = "Failing"

        def recognises(self, files: Sequence[PeerFile]) -> bool:
            raise KeyError("p0")

    add_entry("medseg_nca.peers", "test_failing", Failing())
    refused("test-failing", m3d(tmp_path), SAID, PluginError, "test_failing", "KeyError: 'p0'")
    refused("med-nca", m3d(tmp_path), SAID, CheckpointError, "looks like one of M3D-NCA")


def test_a_file_is_read_once_so_that_its_hash_is_that_of_its_tensors(tmp_path: Path) -> None:
    tensors = Basic(3, 6, 8, 3).state_dict()
    torch.save(tensors, tmp_path / "a.pth")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(tensors, tmp_path / "a.safetensors")
    files, opened = sorted(tmp_path.iterdir()), []
    listening = True

    def hear(event: str, args: tuple[Any, ...]) -> None:
        if listening and event == "open" and isinstance(args[0], str):
            opened.append(Path(args[0]))

    sys.addaudithook(hear)  # it cannot be taken away, and so is told when to stop
    for file in files:
        found = read_files([file])[0]
        assert found.sha256 == sha256(file.read_bytes()).hexdigest()
        torch.testing.assert_close(dict(found.tensors), dict(tensors))
    listening = False
    # Once by the import, once for the hash above.
    assert [opened.count(file) for file in files] == [2, 2, 2]
