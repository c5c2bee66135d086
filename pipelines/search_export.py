"""The settings of a trial as a preset that ``train --config`` takes."""

from __future__ import annotations

from pathlib import Path

from optuna.study import Study
from optuna.trial import FrozenTrial

from medseg_nca.config import RunSettings
from medseg_nca.config.loading import to_yaml, validate
from medseg_nca.io.atomic import write_text
from medseg_nca.search.results import settings_values, values_of
from medseg_nca.search.space import with_values


def write_preset(study: Study, trial: FrozenTrial, path: Path) -> Path:
    """Write the settings of a trial: those that the search began from, and what the trial chose.

    The budget of the search is no part of them: they train as long as the preset of the search.

    Raises:
        OutputError: if the file cannot be written.
        ConfigError: if the study was made by another version of this package.
    """
    facts = study.user_attrs
    settings = validate(RunSettings, facts["settings"], source=study.study_name)
    values = settings_values(study, trial)
    settings = with_values(settings, values, f"trial {trial.number}")
    scores = values_of(trial, facts["objectives"])
    found = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
    lines = [
        f"# Trial {trial.number} of the search {study.study_name}: {found} on the validation part,",
        f"# after a training of {facts['budget']}. The search began from {facts['config']}, and",
        f"# chose: {', '.join(f'{key}={value}' for key, value in values.items())}.",
    ]
    comment = "\n".join(line.replace("\n", " ") for line in lines)
    write_text(path, f"{comment}\n{to_yaml(settings)}")
    return path
