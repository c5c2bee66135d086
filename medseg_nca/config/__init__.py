"""Typed, frozen settings: what every stage may be told, and how it is read from YAML."""

from medseg_nca.config.base import Settings
from medseg_nca.config.labels import Code, Label, LabelTable
from medseg_nca.config.plan import PreprocessPlan
from medseg_nca.config.run import RunSettings

__all__ = ["Code", "Label", "LabelTable", "PreprocessPlan", "RunSettings", "Settings"]
