"""MetaImage in one compressed file, by SimpleITK."""

from __future__ import annotations

from functools import partial

from medseg_nca.io.writers._itk import write_itk
from medseg_nca.io.writers.base import Writer

WRITER = Writer(".mha", partial(write_itk, header_end=b"\nElementDataFile"))
