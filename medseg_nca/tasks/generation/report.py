"""Write ``report.html`` of an evaluation, with its pictures, curves and animation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg_nca.io.atomic import atomic_folder
from medseg_nca.viz.growth import growth_gif, growth_strip, plot_losses
from medseg_nca.viz.report import Block, Items, Picture, Section, Table, Text, write_report

if TYPE_CHECKING:
    from medseg_nca.tasks.generation.evaluation import GrownCase, Wounded

Tree = dict[str, Any]
FIGURES = "figures"
REPORT = "report.html"
_WORDS = {
    "disc": "a disc out of the middle", "half": "the second half", "corner": "a corner",
}  # fmt: skip


def write_evaluation_report(
    tree: Tree, cases: Sequence[GrownCase], out: Path, *, animation: bool
) -> None:
    """Write the figures, which show the first growth of each target, and the report.

    Raises:
        OutputError: if a file cannot be written.
    """
    shown = {case.row["target"]: case for case in reversed(cases)}
    with atomic_folder(out / FIGURES) as folder:
        sections = [_summary(tree)]
        sections += [
            Section(name, _pictures(shown[name], tree, folder, animation))
            for name in dict.fromkeys(case.row["target"] for case in cases)
        ]
        sections.append(Section("Cases", [_cases(tree)]))
        score = tree["score"]
        times = tree["times"]
        write_report(
            out / REPORT,
            f"{tree['model']['name']}: growth, persistence, regeneration",
            sections,
            subtitle=f"{len(cases)} growths, {tree['trained_steps']} trained steps",
            highlights={
                score["name"]: _number(score["value"], "{:.1f}"),
                f"loss after {times[-1]}": _number(tree["loss"][times[-1]]),
                "half mended in": _steps(tree["damage"]["half"], len(cases)),
            },
            footer=f"medseg_nca, {tree['created']}",
        )


def _summary(tree: Tree) -> Section:
    rows = [
        (f"grown for {time} the trained steps", _number(tree["loss"][time]),
         _number(tree["psnr"][time], "{:.1f}"), "")
        for time in tree["times"]
    ]  # fmt: skip
    rows += [
        (f"{tree['healing_time']} steps after {_WORDS[name]} was cut off",
         _number(entry["loss_after"]), _number(entry["psnr_after"], "{:.1f}"),
         _steps(entry, len(tree["cases"])))
        for name, entry in tree["damage"].items()
    ]  # fmt: skip
    blocks: list[Block] = [
        Text(
            "Means over all growths. The loss is the mean squared error of what is seen; mended is "
            "a wound when the loss is at most twice what it was before."
        ),
        Table(("", "loss", "PSNR (dB)", "mended after"), rows),
    ]
    if tree["notes"]:
        blocks += [Text("To be looked at:", "note"), Items(tree["notes"])]
    return Section("In short", blocks)


def _pictures(case: GrownCase, tree: Tree, folder: Path, animation: bool) -> list[Block]:
    name = case.row["target"]
    trained = tree["trained_steps"]
    wanted = {*(round(trained * s) for s in (0.25, 0.5, 0.75, 1)),
              *(int(t[:-1]) * trained for t in tree["times"])}  # fmt: skip
    some = [n for n, step in enumerate(case.steps) if step in wanted]
    strip = growth_strip(
        [case.frames[n] for n in some],
        [f"step {case.steps[n]}" for n in some],
        folder / f"{name}_growth.png",
    )
    curve = plot_losses({"loss": case.losses}, folder / f"{name}_losses.png",
                        title=f"{case.id}: growing on and on")  # fmt: skip
    blocks: list[Block] = [
        Picture(strip, f"{case.id}: from the seed to {tree['times'][-1]} the trained steps"),
        Picture(curve, "Loss over the steps"),
    ]
    if animation:
        early = [n for n, step in enumerate(case.steps) if step <= trained]
        gif = growth_gif(
            [case.frames[n] for n in early],
            [f"step {case.steps[n]}" for n in early],
            folder / f"{name}_growth.gif",
        )
        blocks.insert(0, Picture(gif, f"{case.id}: {trained} steps"))
    for wound, wounded in case.wounds.items():
        blocks += _wound(name, wound, wounded, folder)
    curves = {wound: wounded.losses[1:] for wound, wounded in case.wounds.items()}
    before = next(iter(case.wounds.values())).losses[0]
    blocks.append(
        Picture(
            plot_losses(curves, folder / f"{name}_healing.png", title=f"{case.id}: after damage",
                        mark=before, marked="before"),
            "Loss after damage",
        )
    )  # fmt: skip
    return blocks


def _wound(name: str, wound: str, wounded: Wounded, folder: Path) -> list[Block]:
    captions = ["before", "damaged", *(f"{n} steps later" for n in wounded.steps[2:])]
    path = folder / f"{name}_{wound}.png"
    return [Picture(growth_strip(wounded.frames, captions, path), f"Cut off: {_WORDS[wound]}")]


def _cases(tree: Tree) -> Table:
    times = tree["times"]
    columns = ("case", *(f"loss {t}" for t in times), *(f"{w}: mended after" for w in _WORDS))
    rows = [
        (
            row["id"],
            *(_number(row["loss"][t]) for t in times),
            *(_healed(row["damage"][w]["steps_to_heal"]) for w in _WORDS),
        )
        for row in tree["cases"]
    ]
    return Table(columns, rows)


def _healed(steps: int | None) -> str:
    return "not" if steps is None else f"{steps} steps"


def _steps(entry: Tree, cases: int) -> str:
    if entry["steps_to_heal"] is None:
        return f"not mended ({entry['healed']} of {cases})"
    return f"{entry['steps_to_heal']:.0f} steps ({entry['healed']} of {cases})"


def _number(value: float | None, how: str = "{:.2e}") -> str:
    return "–" if value is None else how.format(value)
