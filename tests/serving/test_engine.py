"""A server whose workers compute with the engine that it was told to take."""

from __future__ import annotations

from pathlib import Path

from tests.serving.running import picture, start


def test_the_report_names_the_engine_of_the_workers(tmp_path: Path) -> None:
    server = start(tmp_path, "--models", "zoo:nuclei", "--engine", "reference").ready()
    job = server.wait(server.send(picture()).json())
    assert job["state"] == "done", job
    report = server.get(f"/v1/jobs/{job['id']}/outputs/report").json()
    assert report["engine"] == "reference"
    assert server.stop() == 0
