"""DICOM: files to volumes with geometry, and label maps to and from DICOM objects.

``scan`` finds the series of a folder, ``select`` chooses among them, ``read`` makes volumes of
them. ``records`` holds the plain values that all parts share, ``problems`` the error that says why
something cannot be used. The parts, each of which uses those above it:

- ``files``: one file, checked and parsed; ``pixels``: its stored values.
- ``series``: the planes of many files become volumes.
- ``annotations``: SEG and RTSTRUCT objects become segments on the grid of an image.
- ``objects``: what the writers (``medseg_nca/io/writers``) share; a volume as a series.
- ``deid``: de-identification; ``check``: objects against the standard.
"""
