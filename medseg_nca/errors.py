"""All errors that the package raises for a problem that its user can solve.

The class of an error decides the exit code of the command line. Its message names the file or the
argument, and says what is wrong and what is allowed; ``hint`` is the next step a person can take.

====  ==========================================================
code  meaning
====  ==========================================================
0     done
1     a fault in this package (a traceback is shown)
2     the input, the settings or the environment must be mended
3     finished, but some cases failed (each is named)
4     training diverged and could not be brought back
5     trained, but the model is no better than a constant answer
130   interrupted; what was done is kept and can be resumed
====  ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping


class MedsegError(Exception):
    """Base class: a problem that the caller can mend."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class ConfigError(MedsegError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(MedsegError):
    """A data set is missing, inconsistent or not in a known layout."""


class ImageError(DataError):
    """An image or label file cannot be read, or its content cannot be used."""


class MemoryBudgetError(MedsegError):
    """A step needs more memory than its budget allows, and was not begun."""


class OutputError(MedsegError):
    """A result cannot be written: full disk, no permission, or a file that is in the way."""


class ModelError(MedsegError):
    """A model is unknown, or its files are missing, damaged or of another model."""


class CheckpointError(ModelError):
    """A checkpoint is unreadable, or belongs to another model or other settings."""


class DependencyError(MedsegError):
    """An optional package is needed for a feature and is not installed."""


class PluginError(DependencyError):
    """Something that another installed package adds cannot be used."""


class DownloadError(MedsegError):
    """A file cannot be fetched, or its checksum is wrong."""


class TrackingError(MedsegError):
    """The tracking store or the model registry refuses a request."""


class StorePackageError(TrackingError, DependencyError):
    """A store needs a package that is not installed: a database's driver, a cloud's client."""


class PartialFailure(MedsegError):  # noqa: N818
    """The work went on to its end, but some cases failed.

    The log names each case as it fails. The message therefore only counts the failed cases and says
    where they are listed.

    Attributes:
        failures: what went wrong, by the name of each failed case.
    """

    exit_code = 3

    def __init__(
        self, message: str, *, hint: str | None = None, failures: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.failures = dict(failures or {})


class DivergenceError(MedsegError):
    """Training diverged more often than the settings allow."""

    exit_code = 4


class NothingLearned(MedsegError):  # noqa: N818
    """A training came to its end, but its model is no better than a constant answer."""

    exit_code = 5


class NonFiniteStateError(MedsegError):
    """The state of an automaton became NaN or infinite.

    Attributes:
        step: number of the step, counted from 0.
        level: index of the level, counted from 0; None if it is not known.
    """

    def __init__(self, step: int, level: int | None = None) -> None:
        self.step, self.level = step, level
        where = "" if level is None else f" of level {level}"
        super().__init__(
            f"The automaton's state is NaN or infinite after step {step + 1}{where}.",
            hint="Check the image for extreme values; train with model.cell.update.norm=rms, a "
            "lower training.lr or fewer steps.",
        )

    def __reduce__(self) -> tuple[type[NonFiniteStateError], tuple[int, int | None]]:
        """Say how to copy the error to another process, whose arguments are not the message."""
        return type(self), (self.step, self.level)


class Interrupted(MedsegError):  # noqa: N818
    """The work was stopped by its user, after all finished results were written to disk."""

    exit_code = 130
