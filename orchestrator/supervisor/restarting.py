"""Starts and restarts in full: models with the settings that the configuration file has now."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from contract.config import Config
from contract.config.variables import SECTIONS
from contract.supervision.control import RestartModels, StartModel
from orchestrator.config.changes import Change, changes
from orchestrator.config.selection import StartOptions, gateway_spec, read_config, start_request
from orchestrator.errors import UserError
from orchestrator.protocol.control import Restart, Start
from orchestrator.protocol.life import Phase
from orchestrator.protocol.specs import ReplicaSpec, UnitSpec
from orchestrator.supervisor.gateway_address import settings_of
from orchestrator.supervisor.reporting.run_file import Run, read_run
from orchestrator.supervisor.units.unit import Unit
from orchestrator.terminal.speech import say


def restart_request(models: list[str] | None = None, *, gateway: bool = True) -> Restart:
    """Restart these models, or (None) all that run and are configured. Raises `UserError`."""
    run = read_run()
    if run is not None:
        assume(run.variables)
    config = read_config()
    running = running_models(run)
    if models is None:
        for model in running:
            if model not in config.models:
                say(f"{model} goes on as it is: it is not configured any more")
        models = [model for model in running if model in config.models]
    absent = [model for model in models if model not in running]
    chosen = [model for model in models if model in running]
    return Restart(
        models=[*chosen, *absent],
        workers=start_request(config, StartOptions(models=tuple(chosen))).workers if chosen else [],
        gateway=gateway_spec(config) if gateway else None,
        redis_url=config.redis.url,
    )


def in_full(request: Restart | RestartModels) -> Restart:
    """Return a restart with what the configuration file says. Raises `UserError`."""
    if isinstance(request, Restart):
        return request
    return restart_request(request.models, gateway=request.gateway)


def running_changes() -> list[Change]:
    """Return what the file says otherwise than what runs. Raises `UserError`."""
    run = read_run()
    if run is None:
        raise UserError("ew does not run", "`./ew start` starts what is configured")
    assume(run.variables)
    return _changes(run, read_config())


def changes_by(config: Config) -> list[Change]:
    """Return what a configuration says otherwise than what runs; nothing if nothing does."""
    run = read_run()
    return [] if run is None else _changes(run, config)


def _changes(run: Run, config: Config) -> list[Change]:
    wanted = [unit.replacement or unit.spec for unit in run.units if unit.is_desired]
    return changes(wanted, run.redis_url, config)


def runs_already(spec: UnitSpec, units: Mapping[str, Unit]) -> str:
    """Return why nothing has to be done to start it; empty if something has."""
    unit = units.get(spec.slot)
    if unit is None or unit.process is None or not unit.is_desired:
        return ""
    name = spec.model if isinstance(spec, ReplicaSpec) else spec.slot
    if settings_of(unit.spec) != settings_of(spec):
        return f"runs already, with its former settings (`./ew restart {name}` changes them)"
    return "runs already" if unit.phase is Phase.READY else ""


def start_in_full(asked: Start | StartModel, variables: dict[str, str]) -> Start:
    """Return a start with what the configuration file says of a model, which runs beside the rest;
    `variables` are the EW_* settings of that. Raises `UserError`."""
    if isinstance(asked, Start):
        return asked
    assume(variables)
    request = start_request(read_config(), StartOptions(models=(asked.model,)))
    return msgspec.structs.replace(request, gateway=None)


def running_models(run: Run | None) -> list[str]:
    """Return those that are started, in their order."""
    specs = [unit.spec for unit in run.units if unit.is_desired] if run else []
    return list(dict.fromkeys(each.model for each in specs if isinstance(each, ReplicaSpec)))


def assume(variables: dict[str, str]) -> None:
    """Take the EW_* settings of what runs for those of this process: they are what the file is
    read with when something is started again."""
    for name in [each for each in os.environ if _is_setting(each)]:
        del os.environ[name]
    os.environ.update({name: value for name, value in variables.items() if _is_setting(name)})


def _is_setting(name: str) -> bool:
    return name.upper().startswith("EW_") and name[3:].lower().split("__")[0] in SECTIONS
