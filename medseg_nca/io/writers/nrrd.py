"""NRRD, gzip-compressed, by SimpleITK."""

from __future__ import annotations

from functools import partial

from medseg_nca.io.writers._itk import write_itk
from medseg_nca.io.writers.base import Writer

WRITER = Writer(".nrrd", partial(write_itk, header_end=b"\n\n"))
