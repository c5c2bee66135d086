"""Install the package with extras into a virtual environment, and show how far it is.

    python .ci/install.py VENV EXTRAS

pip prints some hundred lines, or with --quiet nothing for minutes. Here one line names what it is
at: in its place on a terminal, else every few seconds. What pip prints is kept in VENV/pip.log.
"""

import re
import shutil
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path

# `du -sh` of the environment with the extras dev, cluster and peers and torch's CPU build; 0.7 GB
# of it are Triton, for tests.
SIZE = "3.2 GB"
BEFORE = """\
Installing into {folder}: takes minutes and about {size} of disk, and more where torch comes with
CUDA (docs/getting-started.md says how to choose). {free:.0f} GB are free."""
AFTER = "Installed. Call {bin}/medseg-nca, or simply medseg-nca after: . {bin}/activate"
COLLECTING = re.compile(r"Collecting (.+?)(?: \(from.*)?$")
FETCHING = re.compile(r"Downloading (?:\S*/)?(\S+?(?:\.whl|\.tar\.gz|\.zip) \(.+\))")
BUILDING = re.compile(r"(Installing build dependencies|Building (?:wheel|editable) for \S+)")
UNPACKING = re.compile(r"Installing collected packages: (.+)")


class Progress:
    """Tells what pip is at, from what it prints, in a thread of its own.

    Attributes:
        folder: the virtual environment.
        packages: how many pip has looked at.
        unpacking: how many it installs; 0 while it still collects them.
        step: what it does now.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages = 0
        self.unpacking = 0
        self.step = "starting pip"
        self._before = self._installed()
        self._started = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def read(self, line: str) -> None:
        """Take one line of pip's."""
        if found := COLLECTING.match(line):
            self.packages += 1
            self.step = f"package {self.packages}, {found[1]}"
        elif found := FETCHING.search(line):
            self.step = f"package {self.packages}, fetching {found[1]}"
        elif found := BUILDING.match(line):
            self.step = found[1][0].lower() + found[1][1:]
        elif found := UNPACKING.match(line):
            self.unpacking = len(found[1].split(","))

    def _installed(self) -> int:
        return sum(1 for _ in self.folder.glob("lib/python*/site-packages/*.dist-info"))

    def text(self) -> str:
        """What pip is at, in a line."""
        if not self.unpacking:
            return self.step
        return f"unpacked {self._installed() - self._before} of {self.unpacking} packages"

    def _tell(self) -> None:
        terminal = sys.stdout.isatty()
        while not self._done.wait(0.5 if terminal else 15):
            line = f"  {time.monotonic() - self._started:4.0f} s  {self.text()}"
            if terminal:
                width = shutil.get_terminal_size().columns - 1
                print("\r" + line[:width].ljust(width), end="", flush=True)
            else:
                print(line, flush=True)
        if terminal:
            print(flush=True)


def install(folder: Path, extras: str) -> int:
    """Run pip; returns its exit code, after its last lines if it failed."""
    command = [
        str(folder / "bin" / "python"), "-m", "pip", "install", "--progress-bar=off",
        "--disable-pip-version-check", "-c", "constraints.txt", "-e", f".[{extras}]",
    ]  # fmt: skip
    file = folder / "pip.log"
    with (
        file.open("w", encoding="utf-8") as log,
        Progress(folder) as progress,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as pip,
    ):
        for line in pip.stdout or ():
            log.write(line)
            progress.read(line.strip())
    if pip.returncode:
        print(*file.read_text(encoding="utf-8").splitlines()[-12:], sep="\n")
        print(f"pip failed; {file} holds all that it printed.")
    return pip.returncode


def main(folder: Path, extras: str) -> int:
    """Make the environment and install into it; returns an exit code."""
    free = shutil.disk_usage(folder if folder.exists() else Path()).free / 1e9
    print(BEFORE.format(folder=folder, size=SIZE, free=free), flush=True)
    if not (folder / "pyvenv.cfg").is_file():
        venv.create(folder, with_pip=True)
    code = install(folder, extras)
    if code == 0:
        print(AFTER.format(bin=folder / "bin"), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
