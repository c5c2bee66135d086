"""A probe: how many voxels the answer to each case marks."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics.probes.base import Probe, ProbeFindings
from medseg_nca.dynamics.subject import Need, Subject
from medseg_nca.job import Job


class VoxelsProbe(Probe):
    """Counts the voxels of an answer that are not background."""

    name: ClassVar[str] = "example_probe"
    title: ClassVar[str] = "Marked voxels"
    about: ClassVar[str] = "How many voxels the answer marks."
    needs: ClassVar[Need] = "images"

    def run(self, subject: Subject, settings: DynamicsSettings, job: Job) -> ProbeFindings:
        """Implement :meth:`Probe.run`."""
        rows = [
            {"case": case.id, "voxels": int(np.count_nonzero(case.answer()))}
            for case in self.cases(subject, job)
        ]
        table = [(str(row["case"]), str(row["voxels"])) for row in rows]
        return ProbeFindings(
            tree={"cases": rows}, rows=rows, columns=("case", "voxels"), table=table
        )


PROBE = VoxelsProbe()
