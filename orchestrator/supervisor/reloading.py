"""`./ew reload`, and SIGHUP: the configuration file is taken over, as far as that costs no model
that is loaded its place."""

from __future__ import annotations

import logging
import time
from typing import Final

from contract.config import Config, ModelConfig
from orchestrator.config.changes import Change, changes
from orchestrator.config.effects import Effect
from orchestrator.config.selection import StartOptions, gateway_spec, read_config, start_request
from orchestrator.errors import UserError
from orchestrator.protocol.specs import GATEWAY, GatewaySpec, ReplicaSpec
from orchestrator.supervisor.gateway_address import where_it_is
from orchestrator.supervisor.log_keeper import LogKeeper
from orchestrator.supervisor.models.registry import ModelRegistry
from orchestrator.supervisor.restarting import assume
from orchestrator.supervisor.units.fleet import Fleet
from orchestrator.supervisor.units.unit import Unit

log = logging.getLogger(__name__)
_ON_DEMAND: Final = "on-demand"


class Reloader:
    """Of one supervisor. `reconcile` is to be called whenever something has happened."""

    def __init__(self, fleet: Fleet, models: ModelRegistry, log_keeper: LogKeeper) -> None:
        self._fleet = fleet
        self._models = models
        self._log_keeper = log_keeper
        #: By slot, what a worker that is loaded on demand is now, and shall be from its next load.
        self._next: dict[str, tuple[ReplicaSpec, ReplicaSpec]] = {}

    def reload(self, redis_url: str | None) -> list[Unit]:
        """Take the file over. Returns the units that are being renewed. Raises `UserError`, and
        has changed nothing then."""
        assume(self._fleet.launcher.variables)
        config = read_config()
        specs = [unit.spec for unit in self._fleet.units.values() if unit.is_desired]
        found = changes(specs, redis_url, config)
        workers = self._on_demand(config)
        for change in found:
            log.info("reload: %s: %s -> %s", change.key, change.running, change.file)
        self._next = {each.slot: (now, each) for now, each in workers}
        self._log_keeper.settings = config.logs
        self._fleet.launcher.log_bytes = config.logs.max_bytes
        self.reconcile()
        return self._renew_gateway(config, found)

    def reload_for_signal(self, redis_url: str | None) -> None:
        """Do the same, and log why it cannot be done."""
        try:
            self.reload(redis_url)
        except UserError as error:
            log.error("nothing is reloaded: %s (%s)", error.message, error.hint)

    def reconcile(self) -> None:
        """Describe workers anew that are not there now. What was described otherwise meanwhile, by
        a restart, stays so."""
        for slot, (before, after) in list(self._next.items()):
            unit = self._fleet.units.get(slot)
            if unit is None or unit.spec != before:
                del self._next[slot]
            elif unit.child is None and unit.is_parked:
                unit.spec = after
                self._models.restarted([after])
                del self._next[slot]

    def _on_demand(self, config: Config) -> list[tuple[ReplicaSpec, ReplicaSpec]]:
        """Return the workers of models that are loaded on demand, before and after, as they are
        now and as the file has them. Raises `UserError`."""
        now = {
            worker.slot: worker
            for unit, worker in self._fleet.workers
            if unit.is_desired and worker.loads_on_demand
        }
        configured: dict[str, ModelConfig] = dict(config.models)
        chosen = [
            model
            for model in dict.fromkeys(worker.model for worker in now.values())
            if model in configured and configured[model].load == _ON_DEMAND
        ]
        if not chosen:
            return []
        wanted = start_request(config, StartOptions(models=tuple(chosen))).workers
        return [(now[each.slot], each) for each in wanted if each.slot in now]

    def _renew_gateway(self, config: Config, found: list[Change]) -> list[Unit]:
        """Have the gateway's processes replaced, if they are told something else now."""
        unit = self._fleet.units.get(GATEWAY)
        if unit is None or not unit.is_desired or not isinstance(unit.spec, GatewaySpec):
            return []
        spec = where_it_is(gateway_spec(config), unit)
        if any(each.effect is Effect.RELOAD for each in found):
            self._fleet.replace(unit, spec, time.monotonic())
            return [unit]
        # It has read the rest itself.
        unit.spec = spec
        return []
