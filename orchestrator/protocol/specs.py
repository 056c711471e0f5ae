"""Specifications of the processes of this host. Commands make them; the supervisor runs them."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from contract.engines import declaration_of

VALKEY: Final = "valkey"
GATEWAY: Final = "gateway"


class ValkeySpec(msgspec.Struct, frozen=True, tag="valkey"):
    """The server for queues and token streams that ew starts itself. It may take so many bytes of
    memory, or (0) what is usual on such a host."""

    max_memory_bytes: int = 0

    @property
    def slot(self) -> str:
        return VALKEY


class GatewaySpec(msgspec.Struct, frozen=True, tag="gateway"):
    """The HTTP server. Port 0 picks a free one."""

    python: str
    host: str
    port: int
    drain_timeout_s: float
    #: `Config` as it was when this was planned, without what has its default.
    config: dict[str, Any] = {}

    @property
    def slot(self) -> str:
        return GATEWAY

    @property
    def certificate(self) -> str:
        """The file of its certificate, as the configuration names it; empty without TLS."""
        tls = self.config.get("gateway", {}).get("tls") or {}
        return str(tls.get("certificate_file", ""))


class ReplicaSpec(msgspec.Struct, frozen=True, tag="worker"):
    """One worker of a model. `spec` is a `contract.config.WorkerSpec` as JSON, without the
    name and the Redis URL: the supervisor gives those at each start."""

    model: str
    replica: int
    engine: str
    env: str
    python: str
    start_timeout_s: float
    spec: dict[str, Any]
    #: The engine's, as its environment says; empty if it is not known.
    version: str = ""
    #: `HubConfig` of a model that is from a hub; the token itself is read at each start.
    hub: dict[str, Any] | None = None
    #: How long an answer may take at most.
    answer_timeout_s: float = 900.0

    @property
    def loads_on_demand(self) -> bool:
        """Whether it is started by the first request, and not before."""
        return bool(self.spec["model"].get("load") == "on-demand")

    @property
    def can_sleep(self) -> bool:
        """Whether it may be put to sleep instead of being stopped."""
        return bool(self.spec["model"].get("sleep")) and declaration_of(self.engine).can_sleep

    @property
    def slot(self) -> str:
        return f"{self.model}-{self.replica}"


UnitSpec: TypeAlias = ValkeySpec | GatewaySpec | ReplicaSpec
