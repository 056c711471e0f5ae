"""One look of the supervisor: the subject that is looked at, and the facts that were seen."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from contract.bus.registration import Registration
from contract.gateway_beat import GatewayBeat
from contract.host_beat import HostBeat
from contract.messages import Heartbeat
from contract.process.process_table import Entry
from orchestrator.gpu.nvml.snapshot import Snapshot
from orchestrator.protocol.specs import GatewaySpec


class Subject(NamedTuple):
    """The processes to look at, and what to publish to Redis."""

    redis_url: str
    models: frozenset[str]
    gateway: GatewaySpec | None
    registrations: dict[str, Registration]
    host: HostBeat
    #: Whether other hosts may use the same Redis; then the models on demand that this one would
    #: load or has loaded, as `ask_for_grants` takes them.
    is_shared: bool = False
    loads: Mapping[str, bool] = MappingProxyType({})


class Observation(NamedTuple):
    """One look, begun at `taken_at` (monotonic seconds). `redis` is the server's
    INFO, None if nothing is known of it, nor of beats and queues; it may still have answered,
    if only that it cannot do what it was asked for.

    By model, `waiting` jobs are unclaimed, and `unfinished` ones are these and those that run."""

    taken_at: float
    redis: dict[str, Any] | None
    redis_error: str
    beats: dict[str, Heartbeat]
    waiting: dict[str, int]
    unfinished: dict[str, int]
    gateway_beats: list[GatewayBeat]
    gateway_answers: bool
    redis_answers: bool = True
    #: By model, the workers that jobs had which have ended as poison since the look before.
    broken: Mapping[str, frozenset[str]] = MappingProxyType({})
    #: The supervisors on a shared Redis, as they were before this look; this one among them.
    hosts: tuple[HostBeat, ...] = ()
    #: The models on demand that this host may load.
    granted: frozenset[str] = frozenset()


class Survey(NamedTuple):
    """The processes and GPUs of this host, looking from `taken_at` (monotonic seconds) on."""

    taken_at: float
    table: dict[int, Entry]
    gpus: Snapshot
