"""The status document, put together from what the supervisor knows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from contract.messages import State
from orchestrator.observer import Observation, Survey
from orchestrator.process import Identity
from orchestrator.process_table import Entry, tree
from orchestrator.status import (
    GatewayStatus,
    Gpu,
    ModelStatus,
    RedisStatus,
    Status,
    SupervisorStatus,
    WorkerStatus,
)
from orchestrator.unit import Unit
from orchestrator.wanted import GATEWAY, VALKEY, WantedGateway, WantedWorker

_MIB = 1024 * 1024
_BEST_FIRST = (State.READY, State.STARTING, State.STOPPING, State.FAILED, State.STOPPED)


class Report:
    """Makes the document; holds the latest of what was seen."""

    def __init__(self, supervisor: Identity) -> None:
        self.seen: Observation | None = None
        self.survey = Survey({}, [])
        self._supervisor = SupervisorStatus(
            pid=supervisor.pid, since_unix_s=time.time(), start_ticks=supervisor.start_ticks
        )

    def status(self, units: Mapping[str, Unit], *, external_redis: bool) -> Status:
        return Status(
            written_unix_s=time.time(),
            supervisor=self._supervisor,
            gateway=self._gateway(units.get(GATEWAY)),
            redis=self._external() if external_redis else self._valkey(units.get(VALKEY)),
            models=self._models(units),
            gpus=self.survey.gpus,
        )

    def _gateway(self, unit: Unit | None) -> GatewayStatus | None:
        if unit is None or not isinstance(unit.wanted, WantedGateway):
            return None
        beats = self.seen.gateway_beats if self.seen else []
        family = {entry.pid for entry in self._family(unit)}
        ours = [beat for beat in beats if beat.pid in family]
        return GatewayStatus(
            state=unit.state,
            url=_url(unit.wanted.host, unit.wanted.port),
            since_unix_s=unit.since_unix_s,
            pid=_pid(unit),
            processes=sorted(beat.pid for beat in ours),
            open_streams=sum(beat.open_streams for beat in ours),
            rss_mib=self._rss_mib(unit),
            restarts=unit.restarts,
            stage=unit.stage,
            problem=unit.problem,
        )

    def _valkey(self, unit: Unit | None) -> RedisStatus | None:
        if unit is None:
            return None
        return RedisStatus(
            state=unit.state,
            embedded=True,
            since_unix_s=unit.since_unix_s,
            pid=_pid(unit),
            restarts=unit.restarts,
            stage=unit.stage or self._redis_silence(unit.state),
            problem=unit.problem,
            **self._redis_figures(),
        )

    def _external(self) -> RedisStatus:
        answers = self.seen is not None and self.seen.redis is not None
        return RedisStatus(
            state=State.READY if answers else State.FAILED,
            embedded=False,
            since_unix_s=self._supervisor.since_unix_s,
            stage=self._redis_silence(State.READY),
            **self._redis_figures(),
        )

    def _redis_silence(self, state: State) -> str:
        if state is not State.READY or self.seen is None:
            return ""
        return self.seen.redis_error

    def _redis_figures(self) -> dict[str, Any]:
        info = self.seen.redis if self.seen else None
        if info is None:
            return {}
        is_valkey = "valkey_version" in info
        return {
            "server": "Valkey" if is_valkey else "Redis",
            "version": str(info["valkey_version" if is_valkey else "redis_version"]),
            "used_mib": round(info["used_memory"] / _MIB, 1),
            "operations_per_s": info["instantaneous_ops_per_sec"],
            "append_only_file": bool(info["aof_enabled"]),
        }

    def _models(self, units: Mapping[str, Unit]) -> list[ModelStatus]:
        by_model: dict[str, list[WorkerStatus]] = {}
        for unit in units.values():
            if isinstance(unit.wanted, WantedWorker):
                worker = self._worker(unit, unit.wanted)
                by_model.setdefault(unit.wanted.model, []).append(worker)
        waiting = self.seen.waiting if self.seen else {}
        return [
            ModelStatus(
                id=model,
                state=min((worker.state for worker in workers), key=_BEST_FIRST.index),
                waiting=waiting.get(model),
                running=sum(worker.running for worker in workers),
                tokens_per_s=round(sum(worker.tokens_per_s for worker in workers), 1),
                workers=workers,
            )
            for model, workers in by_model.items()
        ]

    def _worker(self, unit: Unit, wanted: WantedWorker) -> WorkerStatus:
        beat = unit.beat
        return WorkerStatus(
            slot=unit.slot,
            name=unit.name,
            state=unit.state,
            since_unix_s=unit.since_unix_s,
            engine=wanted.engine,
            env=wanted.env,
            stage=unit.stage,
            version=beat.version if beat else "",
            pid=_pid(unit),
            slots=beat.slots if beat else 0,
            running=beat.running if beat else 0,
            tokens_per_s=round(unit.throughput.per_second(time.monotonic()), 1),
            rss_mib=self._rss_mib(unit),
            gpu_mib=_gpu_mib(self.survey.gpus, (entry.pid for entry in self._family(unit))),
            restarts=unit.restarts,
            ready_after_s=beat.ready_after_s if beat else None,
            problem=unit.problem,
        )

    def _family(self, unit: Unit) -> list[Entry]:
        pid = _pid(unit)
        return [] if pid is None else tree(self.survey.table, [pid])

    def _rss_mib(self, unit: Unit) -> int | None:
        family = self._family(unit)
        return sum(entry.rss_bytes for entry in family) // _MIB if family else None


def _pid(unit: Unit) -> int | None:
    return unit.process.pid if unit.process is not None and not unit.has_exited else None


def _gpu_mib(gpus: list[Gpu], pids: Iterable[int]) -> int | None:
    used = [gpu.used_mib_by_pid.get(pid) for pid in pids for gpu in gpus]
    known = [mib for mib in used if mib is not None]
    return sum(known) if known else None


def _url(host: str, port: int) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
