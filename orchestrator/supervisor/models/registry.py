"""The models of this host: the fleet's workers by what they serve."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from contract.bus.registration import Registration
from contract.config import ModelConfig
from orchestrator.errors import UserError
from orchestrator.protocol.specs import ReplicaSpec
from orchestrator.supervisor.models.model import Model
from orchestrator.supervisor.models.registrations import registration_of
from orchestrator.supervisor.observation import Observation
from orchestrator.supervisor.units.fleet import Fleet


class ModelRegistry:
    """By their ids. `update` brings them up to date with the fleet's units."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._models: dict[str, Model] = {}

    def __iter__(self) -> Iterator[Model]:
        return iter(list(self._models.values()))

    def __getitem__(self, model_id: str) -> Model:
        return self._models[model_id]

    @property
    def pins(self) -> dict[str, bool]:
        """The models that the operator has pinned (True) or unpinned."""
        return {model.id: model.pin for model in self if model.pin is not None}

    def pinned(self) -> frozenset[str]:
        """Return the models that are never unloaded for another."""
        return frozenset(model.id for model in self if model.is_pinned)

    def restore(self, pins: Mapping[str, bool]) -> None:
        """Go on where a former supervisor ended."""
        self.update()
        for model_id in pins.keys() & self._models.keys():
            self._models[model_id].pin = pins[model_id]

    def started(self, workers: Iterable[ReplicaSpec]) -> None:
        """These were asked to start: those that load on demand wait for their first request."""
        self.update()
        for worker in workers:
            model = self._models[worker.model]
            if all(unit.process is None for unit in model.units):
                model.config = ModelConfig.model_validate(worker.spec["model"])
            if model.is_on_demand:
                model.join()
            else:
                model.unpark()

    def restarted(self, workers: Iterable[ReplicaSpec]) -> None:
        """These are as described from now on, or soon."""
        self.update()
        for worker in workers:
            model = self._models.get(worker.model)
            if model is not None:
                model.config = ModelConfig.model_validate(worker.spec["model"])
                if not model.is_on_demand:
                    model.unpark()

    def observed(self, seen: Observation) -> None:
        """Take note of the jobs that wait for each model."""
        now = time.monotonic()
        self.update()
        for model in self:
            if model.id in seen.unfinished:
                model.note_use(seen.unfinished[model.id], now)

    def registrations(self) -> dict[str, Registration]:
        """Return what gateways shall know of the models that are loaded on demand, or leave to
        come back."""
        return {
            model.id: replace(registration_of(model), is_returning=not model.is_on_demand)
            for model in self
            if model.is_desired and (model.is_on_demand or model.is_returning)
        }

    def on_demand(self, model_id: str) -> Model:
        """One that comes and goes. Raises `UserError`."""
        self.update()
        model = self._models.get(model_id)
        if model is None or not any(unit.is_desired for unit in model.units):
            hint = f"`./ew start {model_id}`"
            raise UserError(f"model `{model_id}` is not started", hint)
        if not model.is_on_demand:
            hint = 'with `"load": "on-demand"` it would come and go; `./ew stop` ends it'
            raise UserError(f"model `{model_id}` is always loaded", hint)
        return model

    def update(self) -> None:
        """Bring the models up to date with the fleet's units."""
        for model in self:
            model.units, model.workers = [], []
        running = {worker.model for unit, worker in self._fleet.workers if unit.is_desired}
        for unit, worker in self._fleet.workers:
            is_left_over = not unit.is_desired and unit.process is None
            if is_left_over and worker.model in running:
                continue
            if worker.model not in self._models:
                self._models[worker.model] = Model(worker)
            self._models[worker.model].units.append(unit)
            self._models[worker.model].workers.append(worker)
        self._models = {each.id: each for each in self if each.units}
