"""Starting a measurement in a process of its own."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from medseg_nca.benchmark.timing import Effort
from medseg_nca.errors import MedsegError

_CHILD = "medseg_nca.benchmark.child"


class MeasurementError(MedsegError):
    """A measurement was refused or did not come to its end."""


def in_process(task: str, *, effort: Effort | None = None, **arguments: Any) -> Any:
    """Do a task of :mod:`medseg_nca.benchmark.child`; its log goes to standard error.

    Raises:
        MeasurementError: with the reason.
    """
    if effort is not None:
        arguments["effort"] = asdict(effort)
    level = logging.getLogger("medseg_nca").getEffectiveLevel()
    call = [sys.executable, "-m", _CHILD, task, json.dumps(arguments), str(level)]
    done = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode < 0:
        raise MeasurementError(
            f"The process was ended by signal {-done.returncode}; the memory may not be enough."
        )
    if done.returncode:
        raise MeasurementError(f"The process ended with code {done.returncode}; see its output.")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise MeasurementError(answer["error"])
    return answer["result"]
