"""Settings from a file, the environment and the command line, and where each value comes from.

The later wins: default, file, environment, command line. One field of the settings is one key
everywhere: ``max_body`` in the file, ``PREFIX_MAX_BODY`` in the environment, ``--max-body`` as a
flag. A field of type ``SecretStr`` has no flag, because other users of the machine see those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args

import yaml
from pydantic import BeforeValidator, SecretStr, ValidationError, ValidationInfo
from pydantic.fields import FieldInfo

from medseg_nca.config.base import Settings
from medseg_nca.config.explain import explain
from medseg_nca.config.presets import Tree, read_yaml
from medseg_nca.errors import ConfigError
from medseg_nca.suggest import unknown

S = TypeVar("S", bound=Settings)
DEFAULT = "default"
HIDDEN = "********"
# In the context of a validation: the folder that relative paths of a settings file start from.
FOLDER = "folder"
# The variable, behind the prefix, that names the settings file.
_FILE = "SETTINGS"


@dataclass(frozen=True)
class Metavar:
    """Marks a field: what its help shows in place of a value."""

    text: str


@dataclass(frozen=True)
class AlsoFrom:
    """Marks a field: another environment variable that gives it, after the one of its name."""

    variable: str


def beside(value: Any, info: ValidationInfo) -> Any:
    """A path of a settings file is relative to that file, any other to the current folder."""
    if not isinstance(value, str | Path):
        return value
    if not str(value):
        raise ValueError("is empty")
    start = (info.context or {}).get(FOLDER) or Path.cwd()
    return start / Path(value).expanduser()


PathSetting = Annotated[Path, BeforeValidator(beside), Metavar("PATH")]


@dataclass(frozen=True)
class Resolved(Generic[S]):
    """Settings that hold.

    Attributes:
        settings: with every value.
        origins: for each key where its value comes from: a flag, a variable, the path of a file,
            or "default".
        file: settings file; None without one.
    """

    settings: S
    origins: Mapping[str, str]
    file: Path | None = None

    def tree(self, hide: Callable[[str], str] = str) -> Tree:
        """Plain values by their keys; secrets are replaced by stars.

        Args:
            hide: takes what is secret out of a text, such as the password of a URL.
        """
        plain = self.settings.model_dump(mode="json")
        for key in plain:
            if isinstance(getattr(self.settings, key), SecretStr):
                plain[key] = HIDDEN
        return {key: _hidden(value, hide) for key, value in plain.items()}

    def to_yaml(self, hide: Callable[[str], str] = str) -> str:
        """A settings file in which a comment says where each value comes from; see :meth:`tree`."""
        tree = self.tree(hide)
        lines = {key: f"{key}: {_flow(value)}" for key, value in tree.items()}
        width = max(map(len, lines.values()))
        return "".join(f"{line:<{width}}  # {self.origins[key]}\n" for key, line in lines.items())


def _flow(value: Any) -> str:
    """A value as YAML, on one line."""
    text: str = yaml.safe_dump(
        [value], default_flow_style=True, allow_unicode=True, width=float("inf")
    )
    return text.strip()[1:-1]


def _hidden(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [_hidden(item, hide) for item in value]
    return hide(value) if isinstance(value, str) else value


def flag_of(key: str) -> str:
    """``--max-body`` for ``max_body``."""
    return f"--{key.replace('_', '-')}"


def is_secret(field: FieldInfo) -> bool:
    """Whether the values of a field are hidden."""
    return SecretStr in (field.annotation, *get_args(field.annotation))


def mark_of(field: FieldInfo, kind: type[Any]) -> Any:
    """The last mark of a kind on a field, such as :class:`Metavar`; None if there is none."""
    for mark in reversed(field.metadata):
        if isinstance(mark, kind):
            return mark
    # Those of ``X | None`` stay in the annotation.
    for part in get_args(field.annotation):
        for mark in reversed(getattr(part, "__metadata__", ())):
            if isinstance(mark, kind):
                return mark
    return None


def resolve(
    model: type[S], *, prefix: str, environment: Mapping[str, str], flags: Mapping[str, Any],
    file: Path | None = None,
) -> Resolved[S]:  # fmt: skip
    """Find the settings that hold.

    Args:
        model: of the settings; every field has a default.
        prefix: of the variables of the environment, for example "MEDSEG_SERVE_".
        environment: all variables, of which those with the prefix are taken.
        flags: values of the command line by their keys; those that are None or () were not given.
        file: YAML; None takes the one that the variable ``{prefix}SETTINGS`` names, if any.

    Raises:
        ConfigError: naming file, variable or flag, for a key that is unknown (with the nearest
            one) or a value that does not fit.
    """
    values: Tree = {}
    origins = dict.fromkeys(model.model_fields, DEFAULT)
    named = environment.get(f"{prefix}{_FILE}")
    file = Path(named) if file is None and named else file
    if file is not None:
        context = {FOLDER: file.absolute().parent}
        found = _checked(model, read_yaml(file), str(file), context)
        values |= found
        origins |= dict.fromkeys(found, str(file))
    for variable, key in _variables(model, prefix, environment):
        values |= _checked(model, {key: environment[variable]}, variable)
        origins[key] = variable
    for key, value in flags.items():
        if value not in (None, ()):
            values |= _checked(model, {key: value}, flag_of(key))
            origins[key] = flag_of(key)
    return Resolved(model.model_validate(values), origins, file)


def _variables(
    model: type[S], prefix: str, environment: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Variables that are set, each with its key; of two for one key the second wins."""
    others = {
        mark.variable: key
        for key, field in model.model_fields.items()
        if (mark := mark_of(field, AlsoFrom)) is not None
    }
    own = {f"{prefix}{key.upper()}": key for key in model.model_fields}
    for variable in environment:
        if variable.startswith(prefix) and variable not in (*own, f"{prefix}{_FILE}"):
            names = (*own, f"{prefix}{_FILE}")
            raise ConfigError(unknown("environment variable", variable, names))
    return [
        (variable, key)
        for variable, key in {**others, **own}.items()
        if environment.get(variable)  # an empty one counts as not set
    ]


def _checked(
    model: type[S], tree: Tree, source: str, context: dict[str, Any] | None = None
) -> Tree:
    """The values that a source gives, each checked."""
    try:
        found = model.model_validate(tree, context=context)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_text(model, error)}.") from error
    return {key: getattr(found, key) for key in found.model_fields_set}


def _text(model: type[S], error: ValidationError) -> str:
    """What is wrong; the value of a secret is not repeated."""
    if any(is_secret(model.model_fields[str(fault["loc"][0])]) for fault in error.errors()
           if fault["loc"] and fault["loc"][0] in model.model_fields):  # fmt: skip
        keys = sorted({str(fault["loc"][0]) for fault in error.errors() if fault["loc"]})
        return f"{', '.join(keys)}: cannot be used"
    return explain(model, error).rstrip(".")
