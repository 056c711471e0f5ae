"""The status document of one host: what its supervisor writes about once a second.

`<state>/status.json` is the JSON of `RunStatus`, and so is what `./ew status --json` prints. Fields
may be added. Names end in their units; times are Unix seconds; what is not known is null.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from contract.messages import State
from contract.paths import state_dir
from contract.supervision.problem import Problem
from contract.supervision.routes import ModelRoutes

VERSION: Final = 1


class GpuWorker(msgspec.Struct, frozen=True):
    """A worker of ours on a GPU. `stage`: `planned` (it is yet to start), `starting`, `ready`,
    `asleep`, `wake_pending`, `waking`, or `releasing` (it has ended, and its memory is not free
    yet). It may have more than was reserved; then the estimate was wrong, and the next start
    knows better."""

    slot: str
    stage: str
    reserved_mib: int
    used_mib: int


class ForeignProcess(msgspec.Struct, frozen=True):
    """A process on a GPU that is not ew's; what is not known of it is empty or null."""

    pid: int
    user: str
    command: str
    used_mib: int | None


class GpuStatus(msgspec.Struct, frozen=True):
    """A GPU, or a MIG slice (`parent` is its GPU's UUID). `free_mib` is what the driver calls
    free, `promised_mib` the part of it that is reserved for workers which have not taken it."""

    index: int
    uuid: str
    name: str
    total_mib: int
    used_mib: int
    free_mib: int
    promised_mib: int = 0
    utilization_percent: int | None = None
    temperature_c: int | None = None
    parent: str = ""
    problem: str = ""
    workers: tuple[GpuWorker, ...] = ()
    foreign: tuple[ForeignProcess, ...] = ()

    @property
    def foreign_mib(self) -> int:
        """Their memory, as far as it is known."""
        return sum(each.used_mib or 0 for each in self.foreign)


class SupervisorStatus(msgspec.Struct, frozen=True):
    """The process that starts, watches and stops the others."""

    pid: int
    since_unix_s: float
    #: With the pid, tells this process from a later one with the same number; so everywhere here.
    start_ticks: int
    #: False once `status` has found that it is gone; the figures are then its last ones.
    alive: bool = True
    #: Of ew; empty before there was this field.
    version: str = ""


class GatewayStatus(msgspec.Struct, frozen=True):
    """The HTTP server. `processes` are the pids that serve; `certificate` is the file that it
    presents, empty without TLS."""

    state: State
    url: str
    since_unix_s: float
    pid: int | None = None
    start_ticks: int = 0
    certificate: str = ""
    processes: list[int] = []
    open_streams: int = 0
    rss_mib: int | None = None
    restarts: int = 0
    stage: str = ""
    problem: Problem | None = None


class RedisStatus(msgspec.Struct, frozen=True):
    """The server for queues and token streams; `embedded` means that ew started it."""

    state: State
    embedded: bool
    since_unix_s: float
    server: str = ""
    version: str = ""
    pid: int | None = None
    start_ticks: int = 0
    used_mib: float | None = None
    operations_per_s: int | None = None
    append_only_file: bool | None = None
    restarts: int = 0
    stage: str = ""
    problem: Problem | None = None


class WorkerStatus(msgspec.Struct, frozen=True):
    """One worker process, or one that shall come back. `name` changes with each start."""

    slot: str
    name: str
    state: State
    since_unix_s: float
    engine: str
    env: str
    stage: str = ""
    version: str = ""
    pid: int | None = None
    start_ticks: int = 0
    slots: int = 0
    running: int = 0
    tokens_per_s: float = 0.0
    rss_mib: int | None = None
    #: The GPUs that it has a place on, and the memory there: promised, and measured.
    gpus: list[int] = []
    gpu_reserved_mib: int | None = None
    gpu_mib: int | None = None
    restarts: int = 0
    ready_after_s: float | None = None
    problem: Problem | None = None
    #: A remark on the way its engine runs, if that is unusual.
    remark: str = ""


class ModelStatus(msgspec.Struct, frozen=True):
    """A model and its workers. `state` is the best of theirs; `waiting` jobs are unclaimed.

    `load` is `always` or `on-demand`. The time to the first token is that of the last minutes,
    as clients saw it: half of the answers were faster than `first_token_p50_s`. In the same time
    `failed` answers ended with an error.
    """

    id: str
    state: State
    waiting: int | None
    running: int
    tokens_per_s: float
    workers: list[WorkerStatus]
    load: str = "always"
    pinned: bool = False
    #: That of the worker whose state it has.
    stage: str = ""
    first_token_p50_s: float | None = None
    first_token_p99_s: float | None = None
    failed: int = 0
    routes: ModelRoutes | None = None


class ConfigStatus(msgspec.Struct, frozen=True):
    """The configuration file beside what runs: the keys that are `waiting` for a restart, or the
    `problem` for which the file cannot be used."""

    waiting: list[str] = []
    problem: str = ""


class HostStatus(msgspec.Struct, frozen=True):
    """Another host on the same Redis, as it was about a second ago: how many gateway processes it
    has, the state of each model that it runs, and its GPUs together (a slice counts as one)."""

    name: str
    gateways: int = 0
    models: dict[str, State] = {}
    gpus: int = 0
    gpu_used_mib: int = 0
    gpu_total_mib: int = 0


class RunStatus(msgspec.Struct, frozen=True):
    """Everything that runs on this host, and a look at the `others` that share its Redis; without a
    supervisor, that is nothing."""

    written_unix_s: float
    supervisor: SupervisorStatus | None = None
    gateway: GatewayStatus | None = None
    redis: RedisStatus | None = None
    models: list[ModelStatus] = []
    gpus: list[GpuStatus] = []
    #: Why the figures of the GPUs are not known, or not up to date.
    gpu_problem: str = ""
    host: str = ""
    #: Why this host's name cannot be told from another's; empty if it can.
    host_problem: str = ""
    #: Why the hosts on one Redis do not share their API keys, where they should; empty if they do.
    keys_problem: str = ""
    others: list[HostStatus] = []
    config: ConfigStatus = ConfigStatus()
    v: int = VERSION


def status_path() -> Path:
    return state_dir() / "status.json"
