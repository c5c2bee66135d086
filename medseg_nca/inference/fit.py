"""Check whether weights fit the settings beside them, without building the model."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from medseg_nca.config.bounds import plain
from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.config.presets import NETWORKS
from medseg_nca.errors import MedsegError, ModelError
from medseg_nca.inference.spec import AS_TRAINED, WEIGHTS
from medseg_nca.inference.weights import TensorInfo
from medseg_nca.models import SegmentationModel, build_model
from medseg_nca.models.baseline import BaselineModel
from medseg_nca.models.recognise import read_settings, setting_of
from medseg_nca.nca.engines import get_engine

_DTYPES = {
    torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


# Names of the tensors of an ensemble's members.
_MEMBER = re.compile(r"member_(0|[1-9]\d{0,4})\.(.+)", re.DOTALL)


def check_members(
    path: Path, settings: ModelSettings, count: int, tensors: Mapping[str, TensorInfo]
) -> None:
    """Compare the settings of an ensemble with the tensors of each of its members.

    Args:
        path: path of ``model.json``, for the message.
        settings: the model's settings in that file.
        count: number of members.
        tensors: the tensors that the weights file holds, by name.

    Raises:
        ModelError: as :func:`check_fit` raises it; the message names the member too.
    """
    parts: list[dict[str, TensorInfo]] = [{} for _ in range(count)]
    for name, tensor in tensors.items():
        match = _MEMBER.fullmatch(name)
        if match is None or int(match[1]) >= count:
            shown = ascii(name[:80])[1:-1]
            raise ModelError(
                f"{path}: members are {count}, but {WEIGHTS} holds {shown}.", hint=AS_TRAINED
            )
        parts[int(match[1])][match[2]] = tensor
    for number, part in enumerate(parts):
        if not part:
            raise ModelError(
                f"{path}: members are {count}, but {WEIGHTS} holds no member_{number}.",
                hint=AS_TRAINED,
            )
        try:
            check_fit(path, settings, part)
        except ModelError as error:
            text = f"{error.message} (tensors of member_{number})"
            raise ModelError(text, hint=error.hint) from error


def check_fit(path: Path, settings: ModelSettings, tensors: Mapping[str, TensorInfo]) -> None:
    """Compare settings with the tensors of a file, without memory of the tensors' size.

    Args:
        path: path of ``model.json``, for the message.
        settings: the model's settings in that file.
        tensors: the tensors that the weights file holds, by name.

    Raises:
        ModelError: if they do not fit; the message names the setting that is most likely wrong,
            and what the weights file holds.
    """
    if isinstance(settings, NcaModelSettings):
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        for fact in read_settings(settings, shapes):
            if fact.said != fact.held:
                shape = "x".join(map(str, shapes.get(fact.tensor, ())))
                raise ModelError(
                    f"{path}: {fact.setting} says {fact.said}, but {WEIGHTS} holds {fact.held} "
                    f"({fact.tensor} is {shape}).",
                    hint=AS_TRAINED,
                )
    try:
        model = _without_memory(settings, len(tensors))
        compare_tensors(model, tensors)
    except MedsegError as error:
        raise ModelError(f"{path}: {error.message}", hint=error.hint or AS_TRAINED) from error


def _without_memory(settings: ModelSettings, tensors: int) -> SegmentationModel:
    """Build the model on torch's "meta" device, where tensors have shapes but no memory."""
    # These imports come first: a module that is imported inside the block would keep its constants
    # on the device "meta".
    if isinstance(settings, NcaModelSettings):
        get_engine(settings.engine)
    else:
        NETWORKS.get(settings.name)
    with torch.device("meta"), at_most(4 * tensors + 64):
        try:
            model = build_model(settings)
            if isinstance(model, BaselineModel):
                _try_shapes(model)
            return model
        except MedsegError:
            raise
        except Exception as error:  # MONAI's networks may raise anything for strange arguments
            text = plain(str(error) or type(error).__name__)
            raise ModelError(f"model.params make no network: {text}.") from error


def _try_shapes(model: BaselineModel) -> None:
    """Run the network on shapes alone: whether strides work cannot be seen from the weights."""
    image = torch.empty(1, model.in_channels, *(2 * n for n in model.multiple))
    with torch.inference_mode():
        logits = model.eval()(image)
    wanted = (1, model.out_channels, *image.shape[2:])
    if tuple(logits.shape) != wanted:
        raise ModelError(f"model.params make {tuple(logits.shape)} of an image, not {wanted}.")


@contextmanager
def at_most(parameters: int) -> Iterator[None]:
    """Stop building a model as soon as it has more parameters than the file could fill.

    Weights that are shared are stored once, so a model may have more parameters than its file has
    tensors.

    Raises:
        ModelError: inside the block, as soon as there are more than ``parameters``.
    """
    thread, count = threading.get_ident(), 0

    def counted(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal count
        if threading.get_ident() != thread:
            return
        count += 1
        if count > parameters:
            raise ModelError(f"model makes more parameters than {WEIGHTS} holds.")

    handle = register_module_parameter_registration_hook(counted)
    try:
        yield
    finally:
        handle.remove()


def compare_tensors(model: nn.Module, tensors: Mapping[str, TensorInfo]) -> None:
    """Compare the names, shapes and types of tensors.

    If several names share a tensor, the file holds it under one of them.

    Raises:
        ModelError: if a tensor differs; the message names the setting that decides over it.
    """
    state: dict[str, Tensor] = model.state_dict(keep_vars=True)
    shared: dict[int, list[str]] = {}
    for name, tensor in state.items():
        shared.setdefault(id(tensor), []).append(name)
        if name in tensors:
            _compare_one(name, tensor, tensors[name])
    for names in shared.values():
        if not any(name in tensors for name in names):
            made = list(state[names[0]].shape)
            raise _misfit(names[0], f"make it {made}, {WEIGHTS} does not hold it")
    for name, found in tensors.items():
        if name not in state:
            raise _misfit(name, f"make none, {WEIGHTS} holds {list(found.shape)}")


def _compare_one(name: str, wanted: Tensor, found: TensorInfo) -> None:
    shape, dtype = tuple(wanted.shape), _DTYPES.get(wanted.dtype, str(wanted.dtype))
    if shape != found.shape:
        raise _misfit(name, f"make it {list(shape)}, {WEIGHTS} holds {list(found.shape)}")
    if dtype != found.dtype:
        raise _misfit(name, f"need values of type {dtype}, {WEIGHTS} holds {found.dtype}")


def _misfit(name: str, text: str) -> ModelError:
    shown = ascii(name[:80])[1:-1]
    return ModelError(
        f"{setting_of(name)} does not fit the weights: for {shown} the settings {text}."
    )
