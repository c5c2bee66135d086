"""Settings of models: the automaton's parts, its levels, and models that are not automata."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from medseg_nca.config.auto import OrAuto
from medseg_nca.config.base import Settings
from medseg_nca.config.bounds import (
    MAX_AXIS,
    MAX_CHANNELS,
    MAX_FILTERS,
    MAX_HIDDEN,
    MAX_KERNEL,
    MAX_LEVELS,
    MAX_PATCHES,
    MAX_STEPS,
    PlainName,
    check_params,
    short,
)

Channels = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
Kernel = Annotated[int, Field(ge=1, le=MAX_KERNEL)]
Steps = int | tuple[int, int]
PerAxis = int | tuple[int, ...]


def without_defaults(
    settings: Settings, tree: dict[str, Any], names: tuple[str, ...]
) -> dict[str, Any]:
    """Leave some settings out of a tree where they have their defaults.

    So files of models that do without them stay readable for versions that do not know them.
    """
    fields = type(settings).model_fields
    defaults = {name: fields[name].get_default(call_default_factory=True) for name in names}
    return {
        key: value
        for key, value in tree.items()
        if key not in defaults or getattr(settings, key) != defaults[key]
    }


class PerceptionSettings(Settings):
    """What a cell sees besides itself: ``p = [x, K * x]``.

    ``kind`` is the name of a perception in ``medseg_nca/nca/perceptions`` or of another package:
    depthwise: ``filters`` learned filters of size ``kernel`` for each channel, channels apart.
    conv: ``filters`` learned full convolutions, channels mixed (Med-NCA).
    sobel, laplace, sobel_laplace: fixed derivative filters for each channel (Growing NCA).
    ``params`` are what that perception alone reads.
    """

    kind: PlainName = "depthwise"
    kernel: Kernel = 3
    filters: int = Field(1, ge=1, le=MAX_FILTERS)
    padding: Literal["zero", "reflect", "circular"] = "zero"
    bias: bool = True
    params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")
        check_params(self.params)
        return self

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, write(self), ("params",))


class UpdateSettings(Settings):
    """How a cell changes.

    ``kind`` is the name of an update rule in ``medseg_nca/nca/update_rules`` or of another package.
    mlp: ``dx = W1 act(norm(W0 p + b0))``, with ``W1`` zero at the start. ``params`` are what that
    rule alone reads.

    norm: "rms" scales the hidden values of a cell by their root mean square, "batch" uses the
    statistics of the cells that fire, also at test time (M3D-NCA). With ``update_image`` the rule
    also has outputs for the image channels, whose effect is discarded: the published models carry
    those weights.
    """

    kind: PlainName = "mlp"
    hidden: Annotated[int, OrAuto()] = Field(64, ge=1, le=MAX_HIDDEN)
    norm: Literal["none", "rms", "batch"] = "none"
    activation: Literal["relu", "leaky_relu", "gelu", "silu"] = "relu"
    update_image: bool = False
    params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _some_params(self) -> Self:
        check_params(self.params)
        return self

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, write(self), ("kind", "params"))


class AliveSettings(Settings):
    """Which cells live: those with a value above ``threshold`` among themselves and all neighbours.

    ``channel`` is counted after the image's. A cell that does not live before and after a step is
    zero after it, but for its image (Growing NCA, Mordvintsev et al., Distill 2020).
    """

    channel: int = Field(3, ge=0, lt=MAX_CHANNELS)
    threshold: float = Field(0.1, gt=0, allow_inf_nan=False)


class ClockSettings(Settings):
    """Tells every cell which step comes next, in the last channels of the state.

    share: the steps done as a share of ``period``, at most 1. sinusoidal: ``channels`` / 2 pairs of
    sine and cosine; the slowest wave lasts ``period`` steps, each other half as long as the one
    before (after the positional encoding of Vaswani et al., arXiv 1706.03762).
    """

    kind: Literal["share", "sinusoidal"] = "share"
    period: int = Field(64, ge=1, le=MAX_STEPS)
    channels: int = Field(1, ge=1, le=64)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "share" and self.channels != 1:
            raise ValueError(f"share takes 1 channel, got channels {self.channels}")
        if self.kind == "sinusoidal" and self.channels % 2:
            raise ValueError(f"sinusoidal takes pairs of channels, got {self.channels}")
        return self


class StopSettings(Settings):
    """At inference, end a roll-out before its last step where nothing happens any more.

    A sample stops when the mean absolute change of its hidden values in one step is below
    ``tolerance``, after ``least`` steps at the earliest; the other samples of a batch go on. In
    training, all steps are taken.
    """

    tolerance: float = Field(gt=0, allow_inf_nan=False)
    least: int = Field(1, ge=1, le=MAX_STEPS)


CELL_OPTIONS = ("alive", "clock", "stop")


class CellSettings(Settings):
    """One cell: ``channels`` of state (the image's among them) and how they change in a step.

    ``fire_rate`` is the probability that a cell does update in a step. ``alive``, ``clock`` and
    ``stop`` are off unless they are set.
    """

    channels: Annotated[int, OrAuto()] = Field(16, ge=2, le=MAX_CHANNELS)
    perception: PerceptionSettings = PerceptionSettings()
    update: UpdateSettings = UpdateSettings()
    fire_rate: float = Field(0.5, gt=0, le=1)
    alive: AliveSettings | None = None
    clock: ClockSettings | None = None
    stop: StopSettings | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """The names of those of alive, clock and stop that are set."""
        return tuple(name for name in CELL_OPTIONS if getattr(self, name) is not None)

    @property
    def clock_channels(self) -> int:
        """How many channels the clock takes, the last ones of the state."""
        return 0 if self.clock is None else self.clock.channels

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.clock_channels >= self.channels:
            raise ValueError(
                f"clock takes {self.clock_channels} of {self.channels} channels, and leaves none"
            )
        last = self.channels - self.clock_channels - 1
        if self.alive is not None and self.alive.channel > last:
            raise ValueError(f"alive.channel must be 0 to {last}, got {self.alive.channel}")
        return self

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, write(self), CELL_OPTIONS)


class LevelSettings(Settings):
    """One resolution of a multi-level automaton.

    scale: size of a cell of this level in voxels, per axis; 1 is the full resolution.
    steps: how often the cells update, at least once; (min, max) draws a number in training and
    takes the rounded mean at inference. patch: in training, the size in cells of the random patch
    that the level is run on, inside the patch of the level before; None is all of it. patches: how
    many are drawn inside each of those. kernel: replaces the cell's. loss_weight: share of this
    level's loss in the sum.
    """

    scale: PerAxis = 1
    steps: Steps = 16
    patch: PerAxis | None = None
    patches: int = Field(1, ge=1, le=MAX_PATCHES)
    kernel: Kernel | None = None
    loss_weight: float = Field(1.0, ge=0, le=1e6)

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.steps if isinstance(self.steps, tuple) else (self.steps, self.steps)
        if not 1 <= low <= high <= MAX_STEPS:
            raise ValueError(
                f"steps must be a number or (min, max), from 1 to {MAX_STEPS}, "
                f"got {short(self.steps)}"
            )
        if self.kernel is not None and self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")
        if self.patches > 1 and self.patch is None:
            raise ValueError(f"patches is {self.patches}, but patch gives them no size")
        for name, value in (("scale", self.scale), ("patch", self.patch)):
            values = value if isinstance(value, tuple) else (1 if value is None else value,)
            if not 1 <= len(values) <= 3 or any(not 1 <= v <= MAX_AXIS for v in values):
                raise ValueError(
                    f"{name} must be 1 to {MAX_AXIS} on every axis, got {short(value)}"
                )
        return self


class FocusSettings(Settings):
    """Run a level that learned on patches only where the level before found something.

    margin: how many voxels around every foreground cell are run too. background: whether
    channel 0 is the background, which the labels compete with (softmax); else a positive logit is
    foreground (multi-label). It comes from the data when it is None.
    """

    margin: int = Field(8, ge=0, le=MAX_AXIS)
    background: bool | None = None


class NcaModelSettings(Settings):
    """A neural cellular automaton of one or several levels, coarse to fine, of any name.

    ``levels`` "auto" takes one for each scale that the preprocessing plans for the data.
    ``in_channels`` and ``out_channels`` come from the data when they are None. head: "channels"
    reads the logits from the state channels that follow the image (as published); "linear" and
    "mlp" compute them from all hidden channels. global_context: the mean state of a level, through
    one linear map, is added to the hidden channels of the next. coarse_gradient: share of the
    gradient of a level's loss that, in training, reaches each coarser level. checkpoint: in
    training keep the state of every n-th step only and recompute the others in the backward pass;
    None keeps all. focus: at inference, run levels that have a ``patch`` only around what the level
    before found. fire: at inference "sample" draws the fire mask from the seed, "mean" updates
    every cell by ``fire_rate`` times its update. engine: who computes a roll-out; "auto" takes the
    fastest that serves these settings. engine and checkpoint suit one machine and are no part of a
    model: ``model.json`` does not hold them, a model that is trained further takes the defaults,
    and whoever uses it names an engine of his own.
    """

    OF_THE_MACHINE: ClassVar[frozenset[str]] = frozenset({"engine", "checkpoint"})

    family: Literal["nca"] = "nca"
    name: PlainName
    dims: Literal[2, 3] = 3
    in_channels: Channels | None = None
    out_channels: Channels | None = None
    cell: CellSettings = CellSettings()
    levels: Literal["auto"] | tuple[LevelSettings, ...] = (LevelSettings(),)
    share_weights: bool = False
    head: Literal["channels", "linear", "mlp"] = "channels"
    global_context: bool = False
    coarse_gradient: float = Field(1.0, ge=0, le=1)
    checkpoint: int | None = Field(None, ge=1, le=MAX_STEPS)
    focus: FocusSettings | None = None
    fire: Literal["sample", "mean"] = "sample"
    engine: str = "auto"

    @model_validator(mode="after")
    def _some_level(self) -> Self:
        if not self.levels:
            raise ValueError("a model needs at least one level")
        if len(self.levels) > MAX_LEVELS and self.levels != "auto":
            raise ValueError(f"a model has at most {MAX_LEVELS} levels, got {len(self.levels)}")
        whole = {"padding circular": self.cell.perception.padding == "circular",
                 "norm batch": self.cell.update.norm == "batch",
                 "cell.stop": self.cell.stop is not None,
                 "cell.alive": self.cell.alive is not None}  # fmt: skip
        if self.focus is not None and any(whole.values()):
            reasons = " and ".join(name for name, is_so in whole.items() if is_so)
            raise ValueError(f"focus runs parts of the grid, and {reasons} needs all of it")
        levels = self.resolved_levels
        if not any(level.loss_weight for level in levels):
            raise ValueError("at least one level needs a loss_weight above 0")
        if self.share_weights and len({level.kernel for level in levels}) > 1:
            raise ValueError("levels that share weights share the kernel")
        return self

    @property
    def portable(self) -> Self:
        """The settings that ``model.json`` holds: those that suit one machine have defaults."""
        defaults = {name: type(self).model_fields[name].default for name in self.OF_THE_MACHINE}
        return self.changed(**defaults)

    @property
    def resolved_levels(self) -> tuple[LevelSettings, ...]:
        """The levels, once they are known; "auto" without a plan counts as one level."""
        return (LevelSettings(),) if isinstance(self.levels, str) else self.levels


class GenericModelSettings(Settings):
    """A model that is not built from the automaton's parts: a baseline, or one of your own.

    ``params`` go to the builder of that name as keyword arguments.
    """

    family: Literal["generic"] = "generic"
    name: str
    dims: Literal[2, 3] = 3
    in_channels: Channels | None = None
    out_channels: Channels | None = None
    params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _some_params(self) -> Self:
        check_params(self.params)
        return self


ModelSettings = Annotated[NcaModelSettings | GenericModelSettings, Field(discriminator="family")]
