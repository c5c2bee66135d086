"""The DICOM node: series that arrive become jobs, and their results go back to the archive."""
