"""Where a result came from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from medseg_nca import __version__
from medseg_nca.tracking.provenance import git_commit, package_version, package_versions


def test_versions() -> None:
    found = package_versions()
    assert found["medseg-nca"] == __version__
    assert found["torch"] == package_version("torch")
    assert package_version("no-such-package-anywhere") is None


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None

    def git(*command: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(
            ["git", *who, *command], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "first")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "a").write_text("2")
    assert str(git_commit(tmp_path)).endswith("-dirty")


def test_a_missing_folder_is_no_error(tmp_path: Path) -> None:
    assert git_commit(tmp_path / "missing") is None
