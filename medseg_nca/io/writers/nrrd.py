"""NRRD, gzip-compressed, by SimpleITK."""

from __future__ import annotations

from medseg_nca.io.writers._itk import write_itk
from medseg_nca.io.writers.base import Writer

WRITER = Writer(".nrrd", write_itk)
