"""The base of every section of the configuration, and the forms of values that several have."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

#: A model's name is in URLs, Redis keys, file names and metric labels. It may look like a Hugging
#: Face repository: `Qwen/Qwen2.5-7B-Instruct`.
ModelId = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]*(/[A-Za-z0-9_][A-Za-z0-9._:@-]*)*$", max_length=96
    ),
]

Port = Annotated[int, Field(ge=0, le=65535)]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,253}$")]
#: The name of a host, or a pattern of names such as `gpu-*`.
HostPattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9*?._\[\]!-]{1,253}$")]


class Section(BaseModel):
    """A section of the configuration: no unknown keys, no change after loading."""

    model_config = ConfigDict(
        defer_build=True, extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )
