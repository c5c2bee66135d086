"""The commands by which setuptools builds the compiled loops and packs them into a wheel.

setuptools loads this file alone, before the package can be imported.
"""

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
    """Compiles all variants into one shared library, which Python cannot import as a module."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return the path of the library's file below the folder of the packages."""
        *folders, _ = fullname.split(".")
        return os.path.join(*folders, build.library_name())

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """Return no names: the C++ source itself says which functions are exported."""
        return []

    def build_extension(self, ext: Extension) -> None:
        """Compile the library, unless the environment has ``MEDSEG_NCA_KERNELS=off``.

        Raises:
            CompileError: if the library was left out or could not be compiled; setuptools goes on
                without an extension that is optional.
        """
        if os.environ.get("MEDSEG_NCA_KERNELS") == "off":
            ext.optional = True
            raise CompileError("left out, because MEDSEG_NCA_KERNELS=off")
        try:
            build.build(Path(self.get_ext_fullpath(ext.name)))
        except RuntimeError as error:
            raise CompileError(str(error)) from error


class PlatformWheel(bdist_wheel):
    """A wheel for any Python 3 on this platform: the library does not use Python's C interface."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tag of the wheel: any Python 3, no ABI, this platform."""
        return "py3", "none", super().get_tag()[2]
