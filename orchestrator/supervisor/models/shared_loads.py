"""The loads of models on demand, where several hosts share one Redis: one host loads a model at a
time, and a further one joins if that is not enough.

A host that has room asks for the grant at once; one that would have to unload others leaves the
grant to those for a moment. Each host asks for itself, and the first has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from contract.messages import Heartbeat, State
from orchestrator.supervisor.models.load import LoadRequest
from orchestrator.supervisor.models.model import Model

#: A host without room leaves a model to others for this long.
_LEAVES_FOR_S: Final = 3.0
#: A model whose jobs have waited for this long beside workers that serve gets a further host.
_JOINS_AFTER_S: Final = 10.0


class SharedLoads:
    """The grants of this host, as of the last look. Times are monotonic seconds."""

    def __init__(self) -> None:
        #: Whether other hosts may have the same models: without, every load is granted.
        self.is_shared = False
        self._granted: frozenset[str] = frozenset()
        self._busy_since: dict[str, float] = {}
        #: Of requests that wait for a grant, those that were asked for in a hurry.
        self._hurried: set[str] = set()

    def is_granted(self, model: Model) -> bool:
        """Return whether this host may load it. What the operator asks for is loaded anyway."""
        return not self.is_shared or model.is_asked_for or model.id in self._granted

    def leaves(self, model: Model, request: LoadRequest, *, fits: bool) -> bool:
        """Take note whether a model that is asked for fits beside what is loaded here. Returns
        whether it is left to another host for now."""
        request.fits = fits
        request.is_elsewhere = not self.is_granted(model)
        return request.is_elsewhere

    def asks_for(self, models: Iterable[Model], now: float) -> dict[str, bool]:
        """Return the models to ask for, each with whether this host would join others."""
        if not self.is_shared:
            return {}
        return {
            model.id: self._joins(model.id, now)
            for model in models
            if model.is_on_demand and self._has_or_wants(model, now)
        }

    def is_in_a_hurry(self, models: Iterable[Model]) -> bool:
        """Return whether a request has come that no grant was asked for yet; once for each."""
        if not self.is_shared:
            return False
        waiting = {model.id for model in models if model.request and not self.is_granted(model)}
        is_new = not waiting <= self._hurried
        self._hurried = waiting
        return is_new

    def observed(
        self,
        granted: frozenset[str],
        waiting: Mapping[str, int],
        beats: Iterable[Heartbeat],
        now: float,
    ) -> None:
        """Take note of the grants, and of the jobs that wait though workers of any host serve."""
        self._granted = granted
        served = {beat.model for beat in beats if beat.state is State.READY}
        busy = {model for model, count in waiting.items() if count and model in served}
        self._busy_since = {model: self._busy_since.get(model, now) for model in busy}

    def _has_or_wants(self, model: Model, now: float) -> bool:
        if any(unit.process is not None and not unit.is_parked for unit in model.units):
            return True
        if model.request is None:
            return False
        return model.request.fits or now - model.request.since >= _LEAVES_FOR_S

    def _joins(self, model: str, now: float) -> bool:
        return now - self._busy_since.get(model, now) >= _JOINS_AFTER_S
