"""Compile the loops in ``src`` into one library, when the package is built or installed.

    python -m medseg_nca.nca.kernels.build     # in a checkout, after a change of the sources

The compiler is the one of PyPI's ``ziglang`` (a build requirement): the same clang on every system,
without anything installed. Without it ``$CXX`` or the system's ``c++`` is taken. setuptools loads
this file alone, before the package's dependencies exist, so it imports nothing of them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "src"
# For each processor family its variants: name, width of a vector in bytes, and the processor that
# the compiler is told. The last variant runs on every processor of the family; ``library.py``
# chooses one when the package runs.
VARIANTS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "x86_64": (("avx512", 64, "x86-64-v4"), ("avx2", 32, "x86-64-v3"), ("sse2", 16, "x86-64")),
    "aarch64": (("neon", 16, ""),),
}
FAMILIES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
FLAGS = (
    "-std=c++17", "-O3", "-g0", "-Wall", "-Wextra", "-fno-exceptions", "-fno-rtti",
    "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fvisibility=hidden",
)  # fmt: skip
# Linking against this glibc (of 2012) lets a library built on a new system run on an old one.
GLIBC = "2.17"


OFF = "MEDSEG_NCA_KERNELS=off installs without them; plain torch, which is slower, computes then"


def family() -> str:
    """Return the name of this machine's processor family, a key of ``VARIANTS`` if it is known."""
    machine = platform.machine().lower()
    return FAMILIES.get(machine, machine)


def variants() -> tuple[tuple[str, int, str], ...]:
    """Return the variants of this machine's processor family, the fastest first."""
    return VARIANTS.get(family(), (("plain", 16, ""),))


def library_name() -> str:
    """Return the library's file name on this operating system."""
    return {"win32": "kernels.dll", "darwin": "kernels.dylib"}.get(sys.platform, "kernels.so")


def digest(sources: Path = SOURCES) -> str:
    """Return the sha256 of the sources in a folder and of the compiler's options.

    It is compiled into the library, which shows later whether the sources have changed since.
    """
    files = sorted(sources.glob("*.[ch]pp"))
    content = [file.read_bytes().replace(b"\r\n", b"\n") for file in files]
    return hashlib.sha256(
        b"\0".join([*content, repr((VARIANTS, FLAGS, GLIBC)).encode()])
    ).hexdigest()


def compiler() -> tuple[list[str], bool]:
    """Return the compiler's command, and whether it is zig's compiler.

    Raises:
        RuntimeError: if no compiler is found.
    """
    if named := os.environ.get("CXX"):
        return shlex.split(named), False
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "c++"], True
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return [found], False
    raise RuntimeError(
        "No C++ compiler was found for the engine's loops. Install one (pip install ziglang), or "
        f"name it in CXX; {OFF}."
    )


def build(target: Path) -> None:
    """Compile all variants into the library ``target``, which is put in place only when complete.

    Raises:
        RuntimeError: if no compiler is found, or the compiler fails.
    """
    command, zig = compiler()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="medseg-nca-kernels-") as temporary:
        work = Path(temporary)
        with ThreadPoolExecutor() as pool:
            objects = list(pool.map(lambda v: _compile(command, zig, v, work), variants()))
        whole = work / target.name
        system = [] if sys.platform in ("win32", "darwin") else ["-lm"]
        strip = [] if sys.platform == "darwin" else ["-s"]
        _run([*command, *_system_flags(zig), "-shared", *strip, *map(str, objects), *system,
              "-o", str(whole)])  # fmt: skip
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(whole, beside)
        os.replace(beside, target)


def _compile(command: list[str], zig: bool, variant: tuple[str, int, str], work: Path) -> Path:
    name, width, processor = variant
    made = work / f"{name}.o"
    # zig has names of its own for processors, and compiles for this machine's processor if no name
    # is given.
    if zig:
        march = [f"-mcpu={processor.replace('-', '_') or 'baseline'}"]
    else:
        march = [f"-march={processor}"] if processor else []
    macros = [
        f"-DMEDSEG_VARIANT={name}", f"-DMEDSEG_VECTOR_BYTES={width}",
        f'-DMEDSEG_DIGEST="{digest()}"',
    ]  # fmt: skip
    _run([*command, *_system_flags(zig), *FLAGS, *march, *macros, "-c",
          str(SOURCES / "kernels.cpp"), "-o", str(made)])  # fmt: skip
    return made


def _system_flags(zig: bool) -> list[str]:
    flags = [] if sys.platform == "win32" else ["-fPIC"]
    if zig:
        flags += ["-nostdlib++"]
        if sys.platform == "linux" and family() in VARIANTS:
            libc = "musl" if platform.libc_ver()[0] != "glibc" else f"gnu.{GLIBC}"
            flags += ["-target", f"{family()}-linux-{libc}"]
    return flags


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
        raise RuntimeError(f"The engine's loops could not be compiled. {OFF}.\n{said}")


def main() -> None:
    """Compile the library into this file's folder."""
    target = HERE / library_name()
    build(target)
    print(f"{target}: {target.stat().st_size / 1e3:.0f} kB, {', '.join(v[0] for v in variants())}")


if __name__ == "__main__":
    main()
