"""Stored bytes of a plane become the values that its modality means."""
