"""DICOM: files to volumes with geometry, and label maps to and from DICOM objects."""
