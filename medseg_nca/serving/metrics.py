"""Figures of a server in the text format of Prometheus (exposition format 0.0.4)."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping

# Seconds, upper bounds of the histogram of jobs.
_BOUNDS = (0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_COUNTERS = {
    "jobs_total": "Jobs that came to an end, by model and outcome.",
    "jobs_retried_total": "Jobs that were begun once more because a worker died.",
    "worker_starts_total": "Worker processes that were started.",
    "requests_total": "Answers by class of status.",
    "refused_total": "Requests that were refused because the queue was full.",
    "stored_total": "Results that were to be delivered, by destination and outcome.",
    "logins_total": "Logins by outcome.",
    "associations_total": "DICOM associations that came to an end, by outcome.",
    "instances_received_total": "Instances that were sent by C-STORE, by outcome.",
    "received_bytes_total": "Bytes of the instances that were stored.",
    "model_changes_total": "Times that another version of a model was taken into service.",
}


class Metrics:
    """Counters and one histogram; may be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[str, defaultdict[str, int]] = defaultdict(
            lambda: defaultdict(int)
        )
        self._buckets = [0] * (len(_BOUNDS) + 1)
        self._seconds = 0.0

    def count(self, name: str, amount: int = 1, /, **labels: str) -> None:
        """Add one to a counter, or another amount."""
        text = ",".join(f'{key}="{_escaped(value)}"' for key, value in sorted(labels.items()))
        with self._lock:
            self._counts[name][text] += amount

    def observe(self, seconds: float) -> None:
        """Note how long a job took that is done."""
        place = next((i for i, bound in enumerate(_BOUNDS) if seconds <= bound), len(_BOUNDS))
        with self._lock:
            self._buckets[place] += 1
            self._seconds += seconds

    @property
    def mean_seconds(self) -> float:
        """Of the jobs that are done; 1 where there is none yet."""
        with self._lock:
            count = sum(self._buckets)
            return self._seconds / count if count else 1.0

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """All figures.

        Args:
            gauges: text of help and value by name, as they are now.
        """
        lines = []
        for name, (explained, value) in gauges.items():
            lines += [*_head(name, explained, "gauge"), f"medseg_nca_{name} {value:g}"]
        with self._lock:
            for name, explained in _COUNTERS.items():
                lines += _head(name, explained, "counter")
                for labels, number in sorted(self._counts[name].items()):
                    lines.append(f"medseg_nca_{name}{{{labels}}} {number}")
            lines += _head("job_seconds", "Seconds of jobs that are done.", "histogram")
            total = 0
            for bound, number in zip((*map(str, _BOUNDS), "+Inf"), self._buckets, strict=True):
                total += number
                lines.append(f'medseg_nca_job_seconds_bucket{{le="{bound}"}} {total}')
            lines.append(f"medseg_nca_job_seconds_sum {self._seconds:g}")
            lines.append(f"medseg_nca_job_seconds_count {total}")
        return "\n".join(lines) + "\n"


def _head(name: str, explained: str, kind: str) -> list[str]:
    return [f"# HELP medseg_nca_{name} {explained}", f"# TYPE medseg_nca_{name} {kind}"]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
