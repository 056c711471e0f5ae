"""Bodies of the administration API. Names are those of the status document: in `snake_case`, with
their units."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from contract.messages import State
from gateway.batches.batch import BatchStatus


class ProblemBody(BaseModel):
    """Why something does not run."""

    message: str
    hint: str = ""
    log_tail: list[str] = []


class OutcomeBody(BaseModel):
    """The outcome for one process, or for a model that has none. `note` says why nothing had to be
    done."""

    slot: str
    state: State
    note: str = ""
    problem: ProblemBody | None = None


class ChangeBody(BaseModel):
    """`done`: whether the change is over; else the status tells how it goes on."""

    done: bool
    outcomes: list[OutcomeBody] = []


class RequestBody(BaseModel):
    """A request. `state` is `waiting` (for a worker), `starting` (a worker has it, no token came),
    `streaming`, or in the end `done`, `failed` or `left` (its client did). `tokens` may be a second
    or two behind. `worker` is known of open ones."""

    model_config = ConfigDict(from_attributes=True)

    job_id: str
    request_id: str
    model: str
    key_id: str
    key_name: str
    state: str
    began_unix_s: float
    position: int = Field(description="How many jobs waited before it when it came.")
    attempts: int
    tokens: int
    queue_ms: float
    first_token_ms: float
    total_ms: float
    error: str
    worker: str = ""


class RequestsBody(BaseModel):
    """Open requests, the oldest first; and those that ended last, the newest first."""

    open: list[RequestBody]
    ended: list[RequestBody]


class CancelBody(BaseModel):
    cancelled: bool = Field(description="False: it had ended already.")


class BatchFaultBody(BaseModel):
    """Why a batch was not run; `line` of its file counts from 1."""

    code: str
    message: str
    line: int | None


class BatchBody(BaseModel):
    """A batch, without its requests and answers. `total` is 0 until its file was read; an end that
    is yet to come is null."""

    id: str
    key_id: str
    key_name: str
    endpoint: str
    status: BatchStatus
    total: int
    completed: int
    failed: int
    created_unix_s: float
    expires_unix_s: float
    ended_unix_s: float | None
    faults: list[BatchFaultBody]


class BatchesBody(BaseModel):
    batches: list[BatchBody]


class HistoryBody(BaseModel):
    """Samples of the last hour, in columns: each list is as long as `at_unix_s`, and has null where
    nothing is known. GPUs (`used_mib`, `utilization_percent`, `temperature_c`) are by UUID; models
    (`running`, `waiting`, `tokens_per_s`, `first_token_p50_s`, `first_token_p99_s`) by id."""

    at_unix_s: list[float]
    gpus: dict[str, dict[str, list[float | None]]]
    models: dict[str, dict[str, list[float | None]]]


class LogUnitsBody(BaseModel):
    units: list[str]


class LogLineBody(BaseModel):
    """One line of a log. `time` is ISO 8601 with its zone, where the line has one."""

    unit: str
    time: str | None
    process: str | None
    level: str | None
    message: str


class LogLinesBody(BaseModel):
    lines: list[LogLineBody]
