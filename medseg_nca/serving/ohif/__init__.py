"""A build of the OHIF viewer, handed out beneath ``/ohif/``."""
