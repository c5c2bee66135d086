"""The base of every settings model."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from medseg_nca.config.explain import explain
from medseg_nca.errors import ConfigError


class Settings(BaseModel):
    """Frozen, and closed: a key that is not declared is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def changed(self, **values: Any) -> Self:
        """The same settings with some other values, which are checked as those of a file are.

        pydantic's ``model_copy(update=...)`` checks nothing.

        Raises:
            ConfigError: naming the setting, if there is none of that name or its value is wrong.
        """
        tree = {name: getattr(self, name) for name in self.model_fields_set}
        try:
            return type(self).model_validate(tree | values)
        except ValidationError as error:
            raise ConfigError(f"{explain(type(self), error)}.") from error
