"""Dice against the number of steps, of groups of runs: means over seeds as a table and a figure.

    python benchmarks/step_curves.py --data DATA --group NAME=RUN,RUN,... [--group ...]
                                     [--factors 0.5,1,2,3,4,8] [--split test] [--out FIGURE.png]
                                     [--json]

A run is a run folder of ``medseg-nca train``; the runs of a group are the same training with other
seeds. All levels take the same multiple of their trained steps, and the cases are those that the
run held out. A row of the table is a run, and the last row of a group is its mean; "1x to 4x" is
the largest distance from the Dice at 1x of the Dice up to 4x.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import click

from medseg_nca.dynamics import SubjectRequest, metric_against_steps
from medseg_nca.tasks import TASKS, Task
from medseg_nca.tracking.resolve import load_model
from medseg_nca.viz.canvas import FAINT, colour, new_figure, save, style

Curve = dict[float, float]


def measure(run: Path, data: Path, split: str, factors: tuple[float, ...]) -> Curve:
    """Return the mean Dice over cases and labels for each multiple of the steps."""
    model = load_model(str(run), "cpu")
    task: Task = TASKS.get(model.spec.task)
    subject = task.subject(SubjectRequest(model, data, split=split))
    found = metric_against_steps(subject, factors).means()
    return {factor: next(iter(scores.values())) or 0.0 for factor, scores in found.items()}


def moved(curve: Curve) -> float:
    """How far Dice moves from that at 1x, between 1x and 4x."""
    return max(abs(dice - curve[1.0]) for factor, dice in curve.items() if 1 <= factor <= 4)


def mean(curves: list[Curve]) -> Curve:
    """The mean of some curves."""
    return {factor: fmean(curve[factor] for curve in curves) for factor in curves[0]}


def table(groups: dict[str, dict[str, Curve]]) -> str:
    """The figures in Markdown."""
    factors = list(next(iter(next(iter(groups.values())).values())))
    head = ["training", "run", *(f"{factor:g}x" for factor in factors), "1x to 4x"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, runs in groups.items():
        for run, curve in [*runs.items(), ("mean", mean(list(runs.values())))]:
            values = [*(f"{dice:.3f}" for dice in curve.values()), f"{moved(curve):.3f}"]
            lines.append(f"| {' | '.join([name, run, *values])} |")
    return "\n".join(lines)


def draw(groups: dict[str, dict[str, Curve]], path: Path) -> Path:
    """Draw every run as a thin line, and the mean of its group as a thick one."""
    figure = new_figure(6.0, 3.6)
    axes = style(figure.subplots(), x="multiple of the trained steps", y="Dice on held-out cases")
    axes.set_xscale("log", base=2)
    axes.axvspan(1, 4, color=FAINT, alpha=0.12, lw=0)
    for number, (name, runs) in enumerate(groups.items()):
        curves = list(runs.values())
        for curve in curves:
            axes.plot(list(curve), list(curve.values()), color=colour(number), lw=0.7, alpha=0.6)
        middle = mean(curves)
        axes.plot(list(middle), list(middle.values()), color=colour(number), lw=2.2, marker="o",
                  ms=4, label=name)  # fmt: skip
    factors = sorted({f for runs in groups.values() for curve in runs.values() for f in curve})
    axes.set_xticks(factors, [f"{factor:g}" for factor in factors])
    axes.minorticks_off()
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, loc="lower left")
    return save(figure, path)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--group", "groups", multiple=True, required=True, help="NAME=RUN,RUN,...")
@click.option("--factors", default="0.5,1,2,3,4,8", show_default=True)
@click.option("--split", default="test", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="PNG of the curves.")
@click.option("--json", "as_json", is_flag=True)
def main(
    data: Path, groups: tuple[str, ...], factors: str, split: str, out: Path | None, as_json: bool
) -> None:
    """Measure, print, draw."""
    wanted = tuple(sorted({1.0, *(float(factor) for factor in factors.split(","))}))
    found: dict[str, dict[str, Curve]] = {}
    for text in groups:
        name, _, runs = text.partition("=")
        if not runs:
            raise click.UsageError(f"--group {text!r}: write NAME=RUN,RUN,...")
        paths = [Path(run) for run in runs.split(",")]
        found[name] = {path.name: measure(path, data, split, wanted) for path in paths}
    click.echo(json.dumps(found, indent=2) if as_json else table(found))
    if out is not None:
        draw(found, out)


if __name__ == "__main__":
    main()
