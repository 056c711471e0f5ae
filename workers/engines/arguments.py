"""The `engine_args` of a model, as an engine takes them."""

from __future__ import annotations

import dataclasses
from typing import Any

from contract.spelling import did_you_mean
from workers.engine import CannotServe


def known(arguments: dict[str, Any], kind: Any, engine: str) -> dict[str, Any]:
    """Return the arguments, all of which are fields of a dataclass. Raises `CannotServe` for one
    that is none of them."""
    fields = {field.name for field in dataclasses.fields(kind)}
    for name in arguments:
        if name not in fields:
            near = did_you_mean(name, fields)
            raise CannotServe(f"the {engine} engine has no argument `{name}`{near}")
    return arguments
