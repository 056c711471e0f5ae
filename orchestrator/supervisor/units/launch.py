"""How each kind of child is started: its command line and its environment.

A child has the variables that `inheritance` lists, and what is added here: the gateway the EW_*
settings, a worker its `EW_WORKER` and the variables that its model names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from contract.config import GatewayConfig, HubConfig
from contract.logs.rotation import LARGEST_BYTES
from contract.paths import ROOT, project_dir
from contract.process.host_name import VARIABLE
from orchestrator.gpu.allocator import Allocation
from orchestrator.hub.access import hub_variables
from orchestrator.protocol.specs import GatewaySpec, ReplicaSpec, UnitSpec, ValkeySpec
from orchestrator.system.child_environment import PYTHON, TELEMETRY, engine_variables, inherited
from orchestrator.system.ports import PortClaims
from orchestrator.system.process import Command
from orchestrator.system.valkey import server_command

_PLACES: Final = ("EW_HOME", "EW_CONFIG", "EW_STATE_DIR", VARIABLE)


class Launcher:
    """Builds commands. `variables` are the EW_* settings that the gateway shall see."""

    def __init__(self, redis_url: str, variables: dict[str, str]) -> None:
        self.redis_url = redis_url
        self.variables = variables
        #: The size of a log beyond which it is put aside before a start.
        self.log_bytes = LARGEST_BYTES
        self.claims = PortClaims()

    def command(self, spec: UnitSpec, name: str, allocation: Allocation) -> Command:
        """`allocation` is a worker's place. Raises `UserError` if there is no Valkey to start, or
        another ew has the gateway's port."""
        match spec:
            case ValkeySpec():
                return Command(
                    server_command(spec.max_memory_bytes),
                    inherited(os.environ),
                    project_dir(),
                    umask=0o077,
                )
            case GatewaySpec():
                return self._gateway(spec)
            case ReplicaSpec():
                return self._worker(spec, name, allocation)

    def _gateway(self, spec: GatewaySpec) -> Command:
        for host, port in addresses_of(spec):
            self.claims.take(host, port)
        environment = _python_environment(TELEMETRY) | {
            **self.variables,
            "EW_REDIS_URL": self.redis_url,
            "EW_GATEWAY__HOST": spec.host,
            "EW_GATEWAY__PORT": str(spec.port),
        }
        return Command([spec.python, "-m", "gateway"], environment, project_dir())

    def _worker(self, replica: ReplicaSpec, name: str, allocation: Allocation) -> Command:
        spec = {**replica.spec, **allocation.spec, "name": name, "redis_url": self.redis_url}
        model = replica.spec["model"]
        own = [*model.get("pass_env", ()), model.get("api_key_env") or ""]
        environment = _python_environment(engine_variables(), own) | {
            **self._log_level(),
            "EW_WORKER": json.dumps(spec),
            # Engines rename their processes; this keeps the mark in their environment legible.
            "SPT_NOENV": "1",
            **allocation.environment,
        }
        if replica.hub is not None:
            environment |= hub_variables(HubConfig.model_validate(replica.hub))
        programs = str(Path(replica.python).parent)
        environment["PATH"] = os.pathsep.join((programs, environment.get("PATH", os.defpath)))
        return Command([replica.python, "-m", "workers"], environment, project_dir())

    def _log_level(self) -> dict[str, str]:
        """Return the one setting that is not in `EW_WORKER`."""
        return {name: value for name, value in self.variables.items() if name == "EW_LOG_LEVEL"}


def addresses_of(gateway: GatewaySpec) -> list[tuple[str, int]]:
    """Return the hosts and ports that it listens at."""
    section = GatewayConfig.model_validate(gateway.config.get("gateway", {}))
    admin = section.admin_port
    return [(gateway.host, gateway.port), *([(section.admin_host, admin)] if admin else [])]


def _python_environment(*patterns: Collection[str]) -> dict[str, str]:
    places = {name: os.environ[name] for name in _PLACES if name in os.environ}
    return {**inherited(os.environ, *patterns), **PYTHON, **places, "PYTHONPATH": str(ROOT)}
