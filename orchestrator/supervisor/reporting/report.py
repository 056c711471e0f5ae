"""The status document, put together from what the supervisor knows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from contract.condition import Condition, best
from contract.gateway_beat import GatewayBeat
from contract.messages import State
from contract.paths import of_project
from contract.process.host_name import host_name
from contract.process.process_table import Entry, tree
from contract.supervision.routes import ModelRoutes
from contract.supervision.status import (
    ConfigStatus,
    GatewayStatus,
    GpuStatus,
    ModelStatus,
    RedisStatus,
    RunStatus,
    SupervisorStatus,
    WorkerStatus,
)
from orchestrator.protocol.specs import GATEWAY, VALKEY, GatewaySpec, ReplicaSpec
from orchestrator.supervisor.observation import Observation, Survey
from orchestrator.supervisor.reporting.certificate_watch import CertificateWatch
from orchestrator.supervisor.reporting.latency import RecentAnswers
from orchestrator.supervisor.reporting.other_hosts import host_problem, keys_problem, other_hosts
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.process import Identity
from orchestrator.system.redis_trouble import troubles
from orchestrator.system.version import version

_MIB = 1024 * 1024


class Memory(NamedTuple):
    """The GPUs, why their figures are not up to date, and the models that are pinned."""

    gpus: tuple[GpuStatus, ...] = ()
    problem: str = ""
    pinned: frozenset[str] = frozenset()


class Report:
    """Makes the document; holds the latest of what was seen."""

    def __init__(self, supervisor: Identity) -> None:
        self.seen: Observation | None = None
        self.survey: Survey | None = None
        self.config = ConfigStatus()
        self.routes: Mapping[str, ModelRoutes] = {}
        self._recent = RecentAnswers()
        self._certificate = CertificateWatch()
        self._supervisor = SupervisorStatus(
            pid=supervisor.pid,
            since_unix_s=time.time(),
            start_ticks=supervisor.start_ticks,
            version=version(),
        )

    def saw(self, seen: Observation) -> None:
        self.seen = seen
        if seen.gateway_beats:
            self._recent.count(seen.taken_at, (beat.figures for beat in seen.gateway_beats))

    def status(
        self, units: Mapping[str, Unit], memory: Memory, *, external_redis: bool
    ) -> RunStatus:
        return RunStatus(
            written_unix_s=time.time(),
            supervisor=self._supervisor,
            gateway=self._gateway(units.get(GATEWAY)),
            redis=self._external() if external_redis else self._valkey(units.get(VALKEY)),
            models=self._models(units, memory),
            gpus=list(memory.gpus),
            gpu_problem=memory.problem,
            host=host_name(),
            host_problem=host_problem(self.seen) if self.seen else "",
            keys_problem=keys_problem(self.seen) if self.seen else "",
            others=other_hosts(self.seen) if self.seen else [],
            config=self.config,
        )

    def _gateway(self, unit: Unit | None) -> GatewayStatus | None:
        if unit is None or not isinstance(unit.spec, GatewaySpec):
            return None
        beats = self.seen.gateway_beats if self.seen else []
        family = {entry.pid for entry in self._family(unit)}
        ours = [beat for beat in beats if beat.pid in family]
        return GatewayStatus(
            state=unit.state,
            url=_url(unit.spec),
            certificate=_certificate(unit.spec),
            since_unix_s=unit.display.since_unix_s,
            pid=_pid(unit),
            start_ticks=_start_ticks(unit),
            processes=sorted(beat.pid for beat in ours),
            open_streams=sum(beat.open_streams for beat in ours),
            rss_mib=self._rss_mib(unit),
            restarts=unit.restarts.count,
            stage=unit.stage or _old_configuration(ours) or self._certificate.remark(unit.spec),
            problem=unit.problem,
        )

    def _valkey(self, unit: Unit | None) -> RedisStatus | None:
        if unit is None:
            return None
        return RedisStatus(
            state=unit.state,
            embedded=True,
            since_unix_s=unit.display.since_unix_s,
            pid=_pid(unit),
            start_ticks=_start_ticks(unit),
            restarts=unit.restarts.count,
            stage=unit.stage or self._redis_trouble(unit.state),
            problem=unit.problem,
            **self._redis_figures(),
        )

    def _external(self) -> RedisStatus:
        answers = self.seen is not None and self.seen.redis is not None
        return RedisStatus(
            state=State.READY if answers else State.FAILED,
            embedded=False,
            since_unix_s=self._supervisor.since_unix_s,
            stage=self._redis_trouble(State.READY),
            **self._redis_figures(),
        )

    def _redis_trouble(self, state: State) -> str:
        if state is not State.READY or self.seen is None:
            return ""
        wrong = (each.fix for each in troubles(self.seen.redis or {}))
        return self.seen.redis_error or next(wrong, "")

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

    def _models(self, units: Mapping[str, Unit], memory: Memory) -> list[ModelStatus]:
        by_model: dict[str, list[tuple[Unit, ReplicaSpec]]] = {}
        for unit in units.values():
            if isinstance(unit.spec, ReplicaSpec):
                by_model.setdefault(unit.spec.model, []).append((unit, unit.spec))
        return [self._model(model, replicas, memory) for model, replicas in by_model.items()]

    def _model(
        self, model: str, replicas: list[tuple[Unit, ReplicaSpec]], memory: Memory
    ) -> ModelStatus:
        workers = [self._worker(unit, spec, memory) for unit, spec in replicas]
        condition = best(Condition(worker.state, worker.stage) for worker in workers)
        first_token = self._recent.quantiles(model)
        return ModelStatus(
            id=model,
            state=condition.state,
            stage=condition.stage,
            waiting=self.seen.waiting.get(model) if self.seen else None,
            running=sum(worker.running for worker in workers),
            tokens_per_s=round(sum(worker.tokens_per_s for worker in workers), 1),
            workers=workers,
            load="on-demand" if any(spec.loads_on_demand for _, spec in replicas) else "always",
            pinned=model in memory.pinned,
            first_token_p50_s=_rounded(first_token.p50_s),
            first_token_p99_s=_rounded(first_token.p99_s),
            failed=self._recent.failed(model),
            routes=self.routes.get(model),
        )

    def _worker(self, unit: Unit, spec: ReplicaSpec, memory: Memory) -> WorkerStatus:
        child, beat = unit.child, unit.beat
        places = [
            (gpu.index, share)
            for gpu in memory.gpus
            for share in gpu.workers
            if share.slot == unit.slot
        ]
        return WorkerStatus(
            slot=unit.slot,
            name=unit.name,
            state=unit.state,
            since_unix_s=unit.display.since_unix_s,
            engine=spec.engine,
            env=spec.env,
            stage=unit.stage,
            version=beat.version if beat else spec.version,
            pid=_pid(unit),
            start_ticks=_start_ticks(unit),
            slots=beat.slots if beat else 0,
            running=beat.running if beat else 0,
            tokens_per_s=round(child.throughput.per_second(time.monotonic()), 1) if child else 0.0,
            rss_mib=self._rss_mib(unit),
            gpus=[index for index, _ in places],
            gpu_reserved_mib=sum(share.reserved_mib for _, share in places) if places else None,
            gpu_mib=sum(share.used_mib for _, share in places) if places else None,
            restarts=unit.restarts.count,
            ready_after_s=beat.ready_after_s if beat else None,
            remark=beat.remark if beat else "",
            problem=unit.problem,
        )

    def _family(self, unit: Unit) -> list[Entry]:
        pid = _pid(unit)
        return [] if pid is None or self.survey is None else tree(self.survey.table, [pid])

    def _rss_mib(self, unit: Unit) -> int | None:
        family = self._family(unit)
        return sum(entry.rss_bytes for entry in family) // _MIB if family else None


def _old_configuration(beats: list[GatewayBeat]) -> str:
    problem = next((beat.config_problem for beat in beats if beat.config_problem), "")
    return f"by its last good configuration: {problem.splitlines()[0]}" if problem else ""


def _pid(unit: Unit) -> int | None:
    return unit.process.pid if unit.process is not None and not unit.has_exited else None


def _start_ticks(unit: Unit) -> int:
    return unit.process.identity.start_ticks if unit.process is not None else 0


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _url(gateway: GatewaySpec) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(gateway.host, gateway.host)  # noqa: S104
    scheme = "https" if gateway.certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{gateway.port}"


def _certificate(gateway: GatewaySpec) -> str:
    return str(of_project(gateway.certificate)) if gateway.certificate else ""
