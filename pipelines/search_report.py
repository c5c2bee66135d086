"""The report of a search: figures, a table of its trials, and a page that shows them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import yaml

import medseg_nca
from medseg_nca.io.atomic import atomic_folder, write_text
from medseg_nca.search.report_view import importances, view_of
from medseg_nca.viz.report import (
    Block,
    Picture,
    Preformatted,
    Section,
    Table,
    Text,
    write_report,
)
from medseg_nca.viz.search_front import plot_front
from medseg_nca.viz.search_history import plot_search_curves, plot_search_history
from medseg_nca.viz.search_importance import Importance, plot_importance
from medseg_nca.viz.search_parameters import plot_parallel, plot_slices
from medseg_nca.viz.search_study import StudyView, TrialView, short_number

REPORT, TRIALS, FIGURES = "report.html", "trials.csv", "figures"
SHOWN = 10  # of the best trials
# Of a trial's notes these stand in the tables, with their captions.
NOTES = {"parameters": "parameters", "seconds": "seconds", "run": "run", "error": "error"}
ORIGIN = {
    "config": "Config",
    "task": "Task",
    "folds": "Folds of each trial",
    "budget": "Budget of each trial",
    "data_sha256": "Data (sha256)",
    "split_sha256": "Split (sha256)",
}


def run(study: optuna.Study, out: Path) -> Path:
    """Write the report of a search, as far as it has come.

    Beside ``report.html`` there are ``trials.csv``, a line a trial, and ``figures``: PNG files of
    the history, the validation curves, the importance of the settings, parallel coordinates, each
    setting against each objective, and the Pareto front if there are several objectives. What the
    study cannot tell yet is said in the report and not drawn.

    Args:
        study: of one objective or more; its first one is the score. ``study.user_attrs`` names
            them (``objectives``) and says where they come from (``config``, ``budget``,
            ``data_sha256``, ``split_sha256``, ``space``), and what the steps of a validation curve
            are (``steps``); a trial may note ``run``, ``parameters``,
            ``seconds`` and ``error``.
        out: folder.

    Returns:
        The path of ``report.html``.

    Raises:
        OutputError: if a file cannot be written.
    """
    view = view_of(study)
    notes = {trial.number: trial.user_attrs for trial in study.get_trials(deepcopy=False)}
    importance = importances(study, view)
    write_text(out / TRIALS, _csv(view, study))
    with atomic_folder(out / FIGURES) as folder:
        sections = [
            _best(view, notes, out),
            _course(view, folder, str(study.user_attrs.get("steps", "training step"))),
            _front(view, folder),
            _settings(view, importance, folder),
            _failures(view, notes),
            _origin(study),
        ]
        path = write_report(
            out / REPORT,
            f"Search {study.study_name}",
            [section for section in sections if section is not None],
            subtitle=_summary(view),
            highlights=_highlights(view),
            footer=f"medseg-nca {medseg_nca.__version__}, "
            f"{datetime.now(UTC).isoformat(timespec='seconds')}. Scores are of the validation "
            "part: the search chose by them, so they are better than those of new data.",
        )
    return path


def _summary(view: StudyView) -> str:
    aims = [f"{'highest' if o.maximise else 'lowest'} {o.caption}" for o in view.objectives]
    trials = _counted(len(view.trials), "trial")
    settings = _counted(len(view.parameters), "setting")
    return f"{trials} over {settings} for the {' and the '.join(aims)}."


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _highlights(view: StudyView) -> dict[str, str]:
    tiles = {}
    if view.ranked:
        many = len(view.objectives) > 1
        for place, objective in enumerate(view.objectives):
            known = [trial.values[place] for trial in view.ranked if trial.values]
            best = (max if objective.maximise else min)(known)
            tiles[f"{'best ' if many else ''}{objective.caption}"] = short_number(best)
        best_trial = view.ranked[0].number
        tiles["trials on the Pareto front" if many else "best trial"] = str(
            len(view.front) if many else best_trial
        )
    for state in ("complete", "pruned", "failed", "running"):
        count = len(view.of_state(state))
        if count or state == "complete":
            tiles[f"{state} trials" if state != "running" else "still running"] = str(count)
    return tiles


def _best(view: StudyView, notes: Mapping[int, Mapping[str, Any]], out: Path) -> Section:
    title = "The best trials"
    if not view.ranked:
        return Section(title, [Text(_why_none(view), "note")])
    front = {trial.number for trial in view.front} if len(view.objectives) > 1 else set()
    shown = view.ranked[: max(SHOWN, len(front))]
    known = [n for n in NOTES if n != "error" and any(n in notes[t.number] for t in shown)]
    taken = {objective.name for objective in view.objectives}
    known = [name for name in known if name not in taken]
    columns = [
        "Trial",
        *(objective.caption for objective in view.objectives),
        *(parameter.name for parameter in view.parameters),
        *(NOTES[name] for name in known),
    ]
    rows = [
        [
            f"{trial.number}{' *' if trial.number in front else ''}",
            *(short_number(value) for value in trial.values or ()),
            *(_cell(trial.params.get(parameter.name)) for parameter in view.parameters),
            *(_note(name, notes[trial.number].get(name), out) for name in known),
        ]
        for trial in shown
    ]
    caption = f"{len(rows)} of {len(view.ranked)} complete trials, the best first"
    if front:
        caption += "; * is on the Pareto front"
    advice = "`medseg-nca search export` writes the settings of a trial as a preset to train with."
    return Section(title, [Table(columns, rows, caption), Text(advice)])


def _why_none(view: StudyView) -> str:
    if not view.trials:
        return "The search has no trial yet."
    counts = {
        state: len(view.of_state(state))
        for state in ("pruned", "failed", "running", "waiting")
        if view.of_state(state)
    }
    text = ", ".join(f"{count} {state}" for state, count in counts.items())
    advice = ""
    if "running" not in counts and "waiting" not in counts:
        advice = (
            " Give the trials a larger budget, prune later, or narrow the ranges to settings that "
            "are known to train."
        )
    return f"No trial is complete ({text}), so there is no best one.{advice}"


def _course(view: StudyView, folder: Path, steps: str) -> Section | None:
    if not view.trials:
        return None
    history = plot_search_history(view, folder / "history.png")
    blocks: list[Block] = [
        Picture(
            history,
            "Every trial in the order of their beginning. A pruned one stands at the last score "
            "that it reported, or at the bottom if it reported none; a failed one at the bottom.",
        )
    ]
    reported = sum(bool(trial.curve) for trial in view.trials)
    if reported:
        curves = plot_search_curves(view, folder / "curves.png", steps=steps)
        text = (
            f"Validation curves of {reported} trials; the colour is the score at the end, and its "
            "scale leaves out the worst tenth. Pruned trials are grey and end in a triangle."
        )
        blocks.append(Picture(curves, text))
    else:
        blocks.append(Text("No trial reported a score during its training."))
    return Section("How the search went", blocks)


def _front(view: StudyView, folder: Path) -> Section | None:
    if len(view.objectives) < 2 or not view.front:
        return None
    picture = plot_front(view, folder / "front.png")
    count = len(view.front)
    text = (
        f"Pareto front: {count} of {len(view.ranked)} complete trials, with their numbers. No "
        "trial is better than one of these in one objective without being worse in another."
    )
    return Section("Pareto front", [Picture(picture, text)])


def _settings(
    view: StudyView, importance: Sequence[Importance] | str, folder: Path
) -> Section | None:
    if not view.ranked or not view.parameters:
        return None
    blocks: list[Block] = []
    if isinstance(importance, str):
        blocks.append(Text(importance, "note"))
    else:
        panels = [
            (objective.caption[:1].upper() + objective.caption[1:], part)
            for objective, part in zip(view.objectives, importance, strict=True)
        ]
        picture = plot_importance(panels, folder / "importance.png")
        text = (
            f"Importance by PED-ANOVA from {importance[0].trials} complete trials. Only a bar that "
            "passes its mark stands out from chance: the mark is what the setting reaches in 1 of "
            "20 cases when the scores are shuffled. The other bars are pale."
        )
        if importance[0].left_out:
            names = ", ".join(importance[0].left_out)
            text += f" Too few trials have these settings, which are left out: {names}."
        blocks.append(Picture(picture, text))
    complete = len(view.ranked)
    text = (
        f"{complete} complete trials, a line each: the darker, the better; the best one is thick. "
        "Pruned and failed trials are grey."
    )
    if any(p.name not in t.params for p in view.parameters for t in view.trials):
        text += " A line that passes below an axis is of a trial without that setting."
    blocks.append(Picture(plot_parallel(view, folder / "parallel.png"), text))
    for place, objective in enumerate(view.objectives):
        name = f"slices_{place + 1}.png" if len(view.objectives) > 1 else "slices.png"
        picture = plot_slices(view, folder / name, objective=place)
        star = "" if place else " The star is the best trial."
        text = (
            f"Each setting against {objective.caption} ({objective.better}); later trials are "
            f"darker, and a bar is the median of a choice.{star}"
        )
        blocks.append(Picture(picture, text))
    return Section("What the settings do", blocks)


def _failures(view: StudyView, notes: Mapping[int, Mapping[str, Any]]) -> Section | None:
    failed = view.of_state("failed")
    if not failed:
        return None
    rows = [[str(trial.number), _reason(trial, notes[trial.number])] for trial in failed]
    return Section(
        "Failed trials",
        [Table(["Trial", "Why"], rows, f"{len(rows)} failed", closed=len(rows) > 5)],
    )


def _reason(trial: TrialView, notes: Mapping[str, Any]) -> str:
    return str(notes.get("error") or "It ended without a score that is a finite number.")


def _origin(study: optuna.Study) -> Section:
    known = study.user_attrs
    rows = [[word, _cell(known[name])] for name, word in ORIGIN.items() if name in known]
    rows.append(["Optuna", optuna.__version__])
    rows.append(["All trials", TRIALS])
    blocks: list[Block] = [Table(["", ""], rows)]
    if isinstance(known.get("space"), Mapping):
        text = yaml.safe_dump(known["space"], sort_keys=False, allow_unicode=True)
        blocks.append(Preformatted(text, "The space that was searched"))
    return Section("Where it comes from", blocks)


def _csv(view: StudyView, study: optuna.Study) -> str:
    """A line a trial: its state, objectives, settings and notes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    parameters = [parameter.name for parameter in view.parameters]
    # A note may have the name of an objective; a column is prefixed by what it is.
    writer.writerow(
        [
            "trial", "state", "front",
            *(f"objective:{objective.name}" for objective in view.objectives),
            *(f"setting:{name}" for name in parameters),
            *(f"note:{name}" for name in NOTES),
            "began", "ended", "last_step", "last_score",
        ]
    )  # fmt: skip
    front = {trial.number for trial in view.front}
    raw = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    for trial in view.trials:
        source = raw[trial.number]
        values = trial.values or [""] * len(view.objectives)
        times = [t.isoformat(timespec="seconds") if t else ""
                 for t in (source.datetime_start, source.datetime_complete)]  # fmt: skip
        writer.writerow(
            [
                trial.number, trial.state, int(trial.number in front), *values,
                *(trial.params.get(name, "") for name in parameters),
                *(source.user_attrs.get(name, "") for name in NOTES),
                *times, *(trial.curve[-1] if trial.curve else ("", "")),
            ]
        )  # fmt: skip
    return text.getvalue()


def _note(name: str, value: Any, out: Path) -> str:
    """A note as text; a run within the folder of the search is named from there."""
    if name == "run" and value and Path(value).is_relative_to(out.absolute()):
        return Path(value).relative_to(out.absolute()).as_posix()
    return _cell(value)


def _cell(value: Any) -> str:
    """A value of a study as text for a table."""
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int | float):
        return short_number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(part)}" for key, part in value.items())
    return json.dumps(value, ensure_ascii=False, default=str)
