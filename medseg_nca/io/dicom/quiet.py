"""pydicom without its warnings and log lines, which may quote a patient's data."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# The settings below are global to the process; two threads that set and restore them in turns
# would leave them changed.
_LOCK = threading.RLock()
_LOGGERS = ("pydicom", "pylibjpeg", "openjpeg", "jpeg_ls")


@contextmanager
def quiet() -> Iterator[None]:
    """Read with pydicom leniently and silently; all settings are as before afterwards.

    Values that break the rules of their VR are taken as they are. Use it around work on data sets
    whose values may be odd. Threads that read DICOM wait for each other here.
    """
    from pydicom import config

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mode = config.settings.reading_validation_mode
        before = [(logger.disabled, logger.propagate) for logger in loggers]
        config.settings.reading_validation_mode = config.IGNORE
        for logger in loggers:
            logger.disabled, logger.propagate = True, False
        try:
            yield
        finally:
            config.settings.reading_validation_mode = mode
            for logger, (disabled, propagate) in zip(loggers, before, strict=True):
                logger.disabled, logger.propagate = disabled, propagate
