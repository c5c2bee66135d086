"""A DICOMweb server as its client sees it: search (QIDO-RS), fetch (WADO-RS), store (STOW-RS).

See DICOM PS3.18. It stands on httpx, python-multipart and pydicom, not on dicomweb-client: that one
holds a whole series in memory as data sets, knows no bound for what a server sends, and decodes and
encodes again what is only to be kept as it came. Here parts go to files while they arrive.
"""
