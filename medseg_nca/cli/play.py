"""``medseg-nca play``: an automaton that runs live on a page."""

from __future__ import annotations

from pathlib import Path

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import EXISTING, device_option, engine_option, tracking_option
from medseg_nca.serving.packages import check_packages


@click.command()
@click.option(
    "--model", metavar="RUN|URI|zoo:NAME",
    help="A run folder, models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID/model or zoo:NAME.",
)  # fmt: skip
@click.option(
    "--config", metavar="NAME",
    help="Instead of --model: play the model that was trained with this preset into runs/NAME.",
)  # fmt: skip
@click.argument("input_", metavar="[INPUT]", required=False, type=EXISTING)
@click.option("--truth", type=EXISTING, help="True label map of INPUT, for the Dice on the page.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8030, show_default=True,
    help="Port on this machine; 0 takes any that is free.",
)  # fmt: skip
@click.option("--open", "open_", is_flag=True, help="Open the page in the browser.")
@device_option
@engine_option
@tracking_option
def play(
    model: str | None,
    config: str | None,
    input_: Path | None,
    truth: Path | None,
    port: int,
    open_: bool,
    device: str | None,
    engine: str,
    tracking_uri: str | None,
) -> None:
    """Run an automaton live on a page: on INPUT, or from its seed.

    On the page one paints damage and seeds, and changes speed, fire rate and seed. Only this
    machine reaches it. Ctrl-C ends it; nothing is kept.
    """
    if (model is None) == (config is None):
        raise click.UsageError("Give --model or --config, one of them.")
    check_packages()
    name = model if model is not None else _trained(str(config))
    announce(f"Loading {name}.")
    from medseg_nca.config.training import TrackingSettings
    from medseg_nca.play.server import serve_play
    from medseg_nca.play.sessions import PlaySessions
    from medseg_nca.stages.stage import StageRequest
    from medseg_nca.tasks import TASKS, Task
    from medseg_nca.tracking.resolve import load_model

    tracking = TrackingSettings(uri=tracking_uri)
    loaded = load_model(name, device=device or "auto", tracking=tracking, engine=engine)
    task: Task = TASKS.get(loaded.spec.task)
    inputs = task.stages(
        StageRequest(loaded, () if input_ is None else (input_,), _MOST_VOXELS, truth)
    )
    inputs[0].open()  # what is wrong with it is said here, and not on the page

    def listening(url: str) -> None:
        click.echo(f"Listening on {url}")
        if open_:
            click.launch(url)

    serve_play(PlaySessions(inputs), loaded.spec.name, loaded.spec.task, port, listening)


# An image with more voxels is made smaller, so that a step takes a fraction of a second.
_MOST_VOXELS = 2**18


def _trained(config: str) -> str:
    """Return the run folder of a preset.

    Raises:
        ConfigError: if there is no such preset, or it was not trained.
    """
    from medseg_nca.config.loading import load_settings
    from medseg_nca.errors import ConfigError

    settings = load_settings(config)
    folder = Path("runs", settings.name)
    if not (folder / "model").is_dir():
        raise ConfigError(
            f"--config {config}: there is no trained model of it in {folder}.",
            hint=f"Train it first: medseg-nca train --config {config} --out {folder}. Or name "
            "another run with --model.",
        )
    return str(folder)
