"""Bodies of the administration API about tasks."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from contract.supervision.tasks import TaskKind, TaskState
from gateway.api.fields import StrictBody

ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Streams = Annotated[int, Field(ge=1, le=2048)]


class BenchRequest(StrictBody):
    """A measurement of a model: one run for each number of streams."""

    model: ModelName
    streams: list[Streams] = Field([1, 4, 16, 64], min_length=1, max_length=12)
    seconds: Annotated[float, Field(ge=1, le=120, description="Of each run.")] = 10.0
    tokens: Annotated[int, Field(ge=1, le=8192, description="Of each answer.")] = 128
    prompt_words: Annotated[int, Field(ge=1, le=20_000)] = 100


class ModelRequest(StrictBody):
    """A model by its name, or a repository of a Hugging Face hub."""

    model: ModelName


class TaskBody(BaseModel):
    """A task. `settings` are those it was asked with. `last_line` is the last of its log, or why it
    was ended."""

    id: str
    kind: TaskKind
    model: str
    settings: dict[str, Any]
    state: TaskState
    began_unix_s: float
    ended_unix_s: float | None
    last_line: str


class TasksBody(BaseModel):
    tasks: list[TaskBody]


class TaskResultBody(TaskBody):
    """A task with what it has found, as far as it is: the JSON of `ew bench --json` or `ew estimate
    --json`, null if there is none; and the last lines of its log."""

    result: Any
    log: list[str]


class NewTaskBody(BaseModel):
    id: str
