"""``python -m medseg_nca.benchmark.child TASK ARGUMENTS LEVEL``: one measurement, one JSON line.

A measurement has a process of its own because its peak memory must be its own.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from medseg_nca.benchmark.machine import describe, sgemm_gflops
from medseg_nca.benchmark.model import measure_model
from medseg_nca.benchmark.step import measure_steps
from medseg_nca.benchmark.timing import Effort
from medseg_nca.errors import MedsegError

TASKS: Mapping[str, Callable[..., Any]] = {
    "machine": describe,
    "sgemm": sgemm_gflops,
    "step": measure_steps,
    "model": measure_model,
}


def perform(task: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Do a task of :data:`TASKS`; what it refuses or has no memory for becomes an ``error``."""
    given = dict(arguments)
    if "effort" in given:
        given["effort"] = Effort(**given["effort"])
    try:
        return {"result": TASKS[task](**given)}
    except MedsegError as error:
        return {"error": str(error)}
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        return {"error": f"Out of memory: {str(error).splitlines()[0] if str(error) else error}"}


def main() -> None:
    """Entry point of the process."""
    task, arguments, level = sys.argv[1:]
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("medseg_nca").setLevel(int(level))
    sys.stdout.write(json.dumps(perform(task, json.loads(arguments))) + "\n")


if __name__ == "__main__":
    main()
