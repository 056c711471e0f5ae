"""Bodies of the administration API about the configuration file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from gateway.api.fields import StrictBody


class EntryBody(BaseModel):
    """A model's entry as the file has it. `in_file_only`: its keys that are neither shown nor
    changed over HTTP."""

    settings: dict[str, Any]
    in_file_only: list[str]


class EntriesBody(BaseModel):
    """All models' entries, and the `revision` of the file, which a change has to name."""

    file: str
    revision: str
    models: dict[str, EntryBody]


class ConfigSchemaBody(BaseModel):
    """The JSON schema of a model's entry, and its keys that are changed in the file alone."""

    model_schema: dict[str, Any]
    in_file_only: list[str]


class ModelSettings(StrictBody):
    """Keys of a model's entry with their new values: null takes one out, others stay."""

    revision: Annotated[str, StringConstraints(max_length=64)]
    settings: Annotated[dict[str, Any], Field(max_length=100)]


class UnappliedKeyBody(BaseModel):
    """A key that what runs has otherwise, and the command that applies it."""

    key: str
    needs: str


class ModelSetBody(BaseModel):
    """The file's revision now; lines about what is to be minded; what waits to be applied."""

    revision: str
    warnings: list[str]
    waiting: list[UnappliedKeyBody]
