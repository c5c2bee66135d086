"""What a trained automaton does over time, under damage, and when its image changes."""

from medseg_nca.dynamics.step_curve import StepCurve, StepPoint, metric_against_steps
from medseg_nca.dynamics.subject import Measure, ProbedCase, Subject, SubjectRequest

__all__ = [
    "Measure",
    "ProbedCase",
    "StepCurve",
    "StepPoint",
    "Subject",
    "SubjectRequest",
    "metric_against_steps",
]
