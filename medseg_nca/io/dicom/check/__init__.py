"""Check DICOM objects by rules of our own and by dciodvfy."""
