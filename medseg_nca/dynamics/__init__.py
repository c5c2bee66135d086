"""What a trained automaton does over time, under damage, and when its image changes."""

from medseg_nca.dynamics.damage import Recovery, RecoveryPoint, damages, recover
from medseg_nca.dynamics.equivariance import Answered, answer_changed
from medseg_nca.dynamics.seeds import SeedAnswers, compare_seeds
from medseg_nca.dynamics.settling import Criteria, Settled, SettlingVerdict, judge, settle
from medseg_nca.dynamics.step_curve import StepCurve, StepPoint, metric_against_steps
from medseg_nca.dynamics.subject import Measure, ProbedCase, Subject, SubjectRequest
from medseg_nca.dynamics.trajectory import Motion, Trajectory, watch

__all__ = [
    "Answered",
    "Criteria",
    "Measure",
    "Motion",
    "ProbedCase",
    "Recovery",
    "RecoveryPoint",
    "SeedAnswers",
    "Settled",
    "SettlingVerdict",
    "StepCurve",
    "StepPoint",
    "Subject",
    "SubjectRequest",
    "Trajectory",
    "answer_changed",
    "compare_seeds",
    "damages",
    "judge",
    "metric_against_steps",
    "recover",
    "settle",
    "watch",
]
