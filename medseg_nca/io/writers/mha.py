"""MetaImage in one compressed file, by SimpleITK."""

from __future__ import annotations

from medseg_nca.io.writers._itk import write_itk
from medseg_nca.io.writers.base import Writer

WRITER = Writer(".mha", write_itk)
