"""One file per output format; each defines ``WRITER``."""
