"""What the writers of DICOM objects share, and the export of a volume as a series."""
