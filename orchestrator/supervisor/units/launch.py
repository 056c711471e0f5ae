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

from contract.config import HubConfig
from contract.paths import ROOT, project_dir
from orchestrator.gpu.allocator import Grant
from orchestrator.hub.access import hub_variables
from orchestrator.protocol.specs import Wanted, WantedGateway, WantedValkey, WantedWorker
from orchestrator.system.child_environment import ENGINES, PYTHON, inherited
from orchestrator.system.process import Command
from orchestrator.system.valkey import server_command

_PLACES: Final = ("EW_HOME", "EW_CONFIG", "EW_STATE_DIR")


class Launcher:
    """Builds commands. `variables` are the EW_* settings that the gateway shall see."""

    def __init__(self, redis_url: str, variables: dict[str, str]) -> None:
        self.redis_url = redis_url
        self.variables = variables

    def command(self, wanted: Wanted, name: str, grant: Grant) -> Command:
        """`grant` is a worker's place. Raises `UserError` if there is no Valkey to start."""
        match wanted:
            case WantedValkey():
                return Command(
                    server_command(wanted.max_memory_bytes),
                    inherited(os.environ),
                    project_dir(),
                    umask=0o077,
                )
            case WantedGateway():
                return self._gateway(wanted)
            case WantedWorker():
                return self._worker(wanted, name, grant)

    def _gateway(self, wanted: WantedGateway) -> Command:
        environment = _python_environment() | {
            **self.variables,
            "EW_REDIS_URL": self.redis_url,
            "EW_GATEWAY__HOST": wanted.host,
            "EW_GATEWAY__PORT": str(wanted.port),
        }
        return Command([wanted.python, "-m", "gateway"], environment, project_dir())

    def _worker(self, wanted: WantedWorker, name: str, grant: Grant) -> Command:
        spec = {**wanted.spec, **grant.spec, "name": name, "redis_url": self.redis_url}
        model = wanted.spec["model"]
        own = [*model.get("pass_env", ()), model.get("api_key_env") or ""]
        environment = _python_environment(ENGINES, own) | {
            **self._log_level(),
            "EW_WORKER": json.dumps(spec),
            # Engines rename their processes; this keeps the mark in their environment legible.
            "SPT_NOENV": "1",
            **grant.environment,
        }
        if wanted.hub is not None:
            environment |= hub_variables(HubConfig.model_validate(wanted.hub))
        programs = str(Path(wanted.python).parent)
        environment["PATH"] = os.pathsep.join((programs, environment.get("PATH", os.defpath)))
        return Command([wanted.python, "-m", "workers"], environment, project_dir())

    def _log_level(self) -> dict[str, str]:
        """The one setting that is not in `EW_WORKER`."""
        return {name: value for name, value in self.variables.items() if name == "EW_LOG_LEVEL"}


def _python_environment(*patterns: Collection[str]) -> dict[str, str]:
    places = {name: os.environ[name] for name in _PLACES if name in os.environ}
    return {**inherited(os.environ, *patterns), **PYTHON, **places, "PYTHONPATH": str(ROOT)}
