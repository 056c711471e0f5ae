"""A model as the loader sees it: its workers, the request for it, its use and its loads."""

from __future__ import annotations

import time
from collections.abc import Collection

from contract.config import ModelConfig
from contract.host_beat import Residency
from contract.messages import State
from contract.supervision.problem import Problem
from orchestrator.protocol.specs import ReplicaSpec
from orchestrator.supervisor.models.load import LoadRequest, LoadTimes, ModelUse
from orchestrator.supervisor.units.gpu_memory import will_be_free
from orchestrator.supervisor.units.unit import Unit


class Model:
    """A model with its workers. Times are monotonic seconds."""

    def __init__(self, worker: ReplicaSpec) -> None:
        self.id = worker.model
        self.config = ModelConfig.model_validate(worker.spec["model"])
        self.units: list[Unit] = []
        self.workers: list[ReplicaSpec] = []
        #: The operator's word, which goes before the configuration's.
        self.pin: bool | None = None
        #: None while nothing waits for it to be loaded.
        self.request: LoadRequest | None = None
        self.times = LoadTimes()
        self.use = ModelUse()
        self.residency = Residency()

    @property
    def is_on_demand(self) -> bool:
        return self.config.load == "on-demand"

    @property
    def is_pinned(self) -> bool:
        return self.config.pinned if self.pin is None else self.pin

    @property
    def is_desired(self) -> bool:
        """Whether the operator wants it, now or on demand."""
        return all(unit.is_desired for unit in self.units)

    @property
    def is_returning(self) -> bool:
        """Whether it leaves, or has left, to come back."""
        return any(unit.succession.is_returning for unit in self.units)

    @property
    def is_ready(self) -> bool:
        return all(unit.state is State.READY for unit in self.units)

    @property
    def is_loaded(self) -> bool:
        """Whether it serves, and no more of it is on its way."""
        at_rest = [unit for unit in self.units if unit.is_parked or unit.state is State.FAILED]
        at_work = [unit for unit in self.units if unit not in at_rest]
        return bool(at_work) and all(unit.state is State.READY for unit in at_work)

    @property
    def is_parked(self) -> bool:
        return all(unit.is_parked for unit in self.units)

    @property
    def lacks_workers(self) -> bool:
        return any(unit.is_parked for unit in self.units)

    @property
    def is_asleep(self) -> bool:
        return self.is_parked and any(unit.is_asleep for unit in self.units)

    @property
    def is_leaving(self) -> bool:
        """Whether memory of it will be free soon."""
        return any(will_be_free(unit) for unit in self.units)

    @property
    def can_sleep(self) -> bool:
        return self.is_ready and all(worker.can_sleep for worker in self.workers)

    @property
    def is_asked_for(self) -> bool:
        """Whether the operator waits for it."""
        return self.request is not None and self.request.is_operators

    @property
    def is_waited_for(self) -> bool:
        """Whether a request waits for workers that are not there, and that were not given up."""
        return self.request is not None and self.lacks_workers and not self.problem

    @property
    def running(self) -> int:
        return sum(unit.beat.running for unit in self.units if unit.beat)

    @property
    def problem(self) -> Problem | None:
        """Why it was given up."""
        failed = (unit.problem for unit in self.units if unit.state is State.FAILED)
        return next((problem for problem in failed if problem), None)

    def unload(self, reason: str, *, asleep: bool) -> None:
        """Let it go, or fall asleep, for one of the reasons of `Residency`."""
        if any(unit.state is State.READY for unit in self.units):
            self.residency.went(reason, asleep=asleep)
        self.park(asleep=asleep)

    def park(self, *, asleep: bool = False) -> None:
        """Let it rest until it is asked for."""
        self.request = None
        for unit in self.units:
            unit.park(asleep=asleep)

    def park_failed(self) -> None:
        """Its workers that were given up may be tried again, with the next load."""
        failed = [unit for unit in self.units if unit.state is State.FAILED]
        if len(failed) == len(self.units):
            self.request = None
        for unit in failed:
            unit.park(asleep=unit.is_asleep)

    def unpark(self, besides: Collection[str] = ()) -> None:
        """Its workers are to run, but for these (by slot)."""
        for unit in self.units:
            if unit.slot not in besides:
                unit.unpark(time.monotonic())

    def join(self) -> None:
        """Workers that are not there, or leave, do as the others: they rest, or are to start."""
        absent = [
            unit
            for unit in self.units
            if unit.process is None or (unit.is_leaving and not unit.succession.is_returning)
        ]
        is_at_rest = all(unit in absent or unit.is_parked for unit in self.units)
        for unit in absent:
            if is_at_rest:
                unit.park()
            else:
                unit.unpark(time.monotonic())

    def want(self, now: float) -> LoadRequest:
        """Return the request for it, which is made if there is none."""
        self.request = self.request or LoadRequest(now)
        return self.request

    def note_use(self, unfinished: int, now: float) -> None:
        """Take note of how many jobs for it are not over."""
        jobs_total = sum(unit.beat.jobs_total for unit in self.units if unit.beat)
        self.use.count(now, unfinished=unfinished, running=self.running, jobs_total=jobs_total)
        self._note_times(now)
        if self.is_ready or (self.is_loaded and self.problem):
            self.request = None
        elif self.is_on_demand and unfinished and not self.is_leaving:
            # Its own last jobs do not call it back; what it leaves behind does, when it is gone.
            self.want(now)
        elif self.is_on_demand and not self.is_asked_for:
            self.request = None

    def _note_times(self, now: float) -> None:
        if self.is_loaded:
            children = [unit.child for unit in self.units if unit.child]
            took_s = max((each.ready_after_s or 0.0 for each in children), default=0.0)
            is_woken = any(each.is_woken for each in children)
            if self.times.arrived(now, took_s, is_woken=is_woken) and took_s:
                self.residency.loads += not is_woken
                self.residency.wakes += is_woken
                self.residency.last_load_s = took_s
        elif self.is_asleep:
            self.times.found_asleep(now)
        elif not self.is_parked and not any(unit.state is State.READY for unit in self.units):
            self.times.loaded_at = None
