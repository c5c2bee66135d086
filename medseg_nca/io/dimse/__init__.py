"""Talk to archives by DICOM's own messages (DIMSE): send, search, fetch, and test a connection."""
