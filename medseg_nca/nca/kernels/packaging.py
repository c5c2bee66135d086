"""What setuptools does with the compiled loops; it loads this file alone, before all others."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from setuptools import Extension
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

_spec = importlib.util.spec_from_file_location("_build", Path(__file__).with_name("build.py"))
assert _spec is not None
assert _spec.loader is not None
build = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = build
_spec.loader.exec_module(build)


class BuildKernels(build_ext):
    """Compiles all variants into one library, which is no Python module."""

    def get_ext_filename(self, fullname: str) -> str:
        """The name of the library's file below the packages."""
        *folders, _ = fullname.split(".")
        return os.path.join(*folders, build.library_name())

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """None by this way: the source says what is exported."""
        return []

    def build_extension(self, ext: Extension) -> None:
        """Compile, unless ``MEDSEG_NCA_KERNELS=off``."""
        if os.environ.get("MEDSEG_NCA_KERNELS") == "off":
            ext.optional = True
            raise CompileError("left out, because MEDSEG_NCA_KERNELS=off")
        try:
            build.build(Path(self.get_ext_fullpath(ext.name)))
        except RuntimeError as error:
            raise CompileError(str(error)) from error


class PlatformWheel(bdist_wheel):
    """The library needs no particular Python, only this system."""

    def get_tag(self) -> tuple[str, str, str]:
        """Any Python 3, no ABI, this platform."""
        return "py3", "none", super().get_tag()[2]
