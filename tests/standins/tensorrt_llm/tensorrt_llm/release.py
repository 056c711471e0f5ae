"""Which release this stand-in plays (TENSORRT_LLM_STANDIN), and what that release accepts."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, create_model

NAME = os.environ.get("TENSORRT_LLM_STANDIN", "1.2.1")
_DATA = json.loads((Path(__file__).parent / "releases.json").read_text())
RELEASE: dict[str, Any] = _DATA["releases"][NAME]
ALGORITHMS: list[str] = _DATA["classes"]["QuantAlgo"]


def fields_of(name: str) -> dict[str, Any]:
    return {**_DATA["classes"][name], **RELEASE["more_fields"].get(name, {})}


def dataclass_of(name: str, *, kw_only: bool = True, base: type = object) -> type:
    """Return a class that refuses unknown arguments with Python's own TypeError."""
    return dataclasses.make_dataclass(
        name,
        [(field, Any, _default(value)) for field, value in fields_of(name).items()],
        kw_only=kw_only,
        bases=(base,),
    )


def model_of(name: str) -> type:
    """Return a class that refuses unknown arguments with pydantic's error."""
    fields = {
        field: (Any, ... if value == "<required>" else value)
        for field, value in fields_of(name).items()
    }
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return create_model(name, __config__=config, **fields)


def _default(value: Any) -> Any:
    if value == "<required>":
        return dataclasses.field()
    if isinstance(value, (list, dict)):
        return dataclasses.field(default_factory=type(value))
    return dataclasses.field(default=value)
