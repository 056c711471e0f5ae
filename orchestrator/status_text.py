"""The status document as text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TextIO

from contract.messages import State
from contract.paths import as_called
from orchestrator.diagnosis import Problem
from orchestrator.status import (
    ForeignProcess,
    GatewayStatus,
    GpuStatus,
    ModelStatus,
    RedisStatus,
    Status,
    SupervisorStatus,
    WorkerStatus,
)
from orchestrator.terminal import duration, mebibytes, styled

_STYLES: Final = {
    State.READY: "green",
    State.STARTING: "yellow",
    State.SLEEPING: "cyan",
    State.STOPPING: "yellow",
    State.FAILED: "red",
    State.STOPPED: "dim",
}
_STALE_AFTER_S: Final = 10.0
_WIDTH: Final = 80
_FACTS_FROM: Final = 21


class StatusText:
    """Writes lines for one stream, whose abilities decide about colour."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def lines(self, status: Status, now_unix_s: float) -> list[str]:
        lines = (
            *self._head(status, now_unix_s),
            *self._models(status.models, now_unix_s),
            *self._gpus(status),
        )
        return [as_called(line) for line in lines]

    def _head(self, status: Status, now: float) -> Iterator[str]:
        if status.supervisor is None:
            yield "nothing runs; `./ew start` starts what is configured"
        else:
            yield from self._supervisor(status.supervisor, now - status.written_unix_s, now)
        if status.gateway:
            yield from self._gateway(status.gateway, now)
        if status.redis:
            yield from self._redis(status.redis, now)

    def _supervisor(self, supervisor: SupervisorStatus, age_s: float, now: float) -> Iterator[str]:
        if not supervisor.alive:
            gone = f"the supervisor (pid {supervisor.pid}) is gone"
            yield self._style("red", f"{gone}; `./ew start` takes over what is left:")
            return
        up = duration(now - supervisor.since_unix_s)
        yield f"supervisor  {self._state(State.READY)} pid {supervisor.pid}, up {up}"
        if age_s > _STALE_AFTER_S:
            yield self._style("red", f"it has not written for {duration(age_s)}: is it stuck?")

    def _gateway(self, gateway: GatewayStatus, now: float) -> Iterator[str]:
        facts = [
            gateway.url,
            f"{len(gateway.processes)} processes" if len(gateway.processes) > 1 else "",
            f"{gateway.open_streams} streams" if gateway.open_streams else "",
            _pid(gateway.pid),
            f"up {duration(now - gateway.since_unix_s)}" if gateway.state is State.READY else "",
            _restarts(gateway.restarts),
        ]
        yield from self._server("gateway", gateway.state, [gateway.stage, *facts])
        yield from self._problem(gateway.state, gateway.problem)

    def _redis(self, redis: RedisStatus, now: float) -> Iterator[str]:
        name = "valkey" if redis.embedded else "redis"
        facts = [
            f"{redis.server} {redis.version}" if redis.version else "",
            mebibytes(redis.used_mib) if redis.used_mib is not None else "",
            f"{redis.operations_per_s} ops/s" if redis.operations_per_s is not None else "",
            "" if redis.append_only_file is None else _aof(redis.append_only_file),
            _pid(redis.pid),
            f"up {duration(now - redis.since_unix_s)}" if redis.state is State.READY else "",
            _restarts(redis.restarts),
        ]
        yield from self._server(name, redis.state, [redis.stage, *facts])
        yield from self._problem(redis.state, redis.problem)

    def _server(self, name: str, state: State, facts: Sequence[str]) -> Iterator[str]:
        head = f"{name:11} {self._state(state)} "
        for line in _lines(facts, _WIDTH - _FACTS_FROM):
            yield f"{head}{line}".rstrip()
            head = " " * _FACTS_FROM

    def _models(self, models: Sequence[ModelStatus], now: float) -> Iterator[str]:
        if not models:
            return
        yield ""
        width = max(10, *(len(worker.slot) for model in models for worker in model.workers))
        yield self._style(
            "bold", f"{'WORKER':{width}}  STATE     QUEUE  RUN   TOK/S     MEMORY  UP"
        )
        for model in models:
            for worker in model.workers:
                yield from self._worker(model, worker, width, now)
            if model.first_token_p50_s is not None and model.first_token_p99_s is not None:
                half, most = _seconds(model.first_token_p50_s), _seconds(model.first_token_p99_s)
                yield self._style("dim", f"  first token: half within {half}, 99% within {most}")

    def _worker(
        self, model: ModelStatus, worker: WorkerStatus, width: int, now: float
    ) -> Iterator[str]:
        queue = "-" if model.waiting is None else str(model.waiting)
        memory = "-" if worker.rss_mib is None else mebibytes(worker.rss_mib)
        up = duration(now - worker.since_unix_s) if worker.pid else "-"
        yield (
            f"{worker.slot:{width}}  {self._state(worker.state)} {queue:>5} {worker.running:4}"
            f" {worker.tokens_per_s:7.1f} {memory:>10}  {up}"
        )
        facts = [
            f"{worker.engine} {worker.version}".strip(),
            f"env {worker.env}",
            _pid(worker.pid),
            _place(worker),
            _restarts(worker.restarts),
            "pinned" if model.pinned else "",
            worker.stage,
        ]
        for line in _lines(facts, _WIDTH - 2):
            yield self._style("dim", f"  {line}")
        yield from self._problem(worker.state, worker.problem)

    def _gpus(self, status: Status) -> Iterator[str]:
        if not status.gpus:
            return
        yield ""
        head = f"{'USED':>9} {'RESERVED':>9} {'FREE':>9} {'OF':>9} {'BUSY':>5} {'TEMP':>5}"
        yield self._style("bold", f"{'GPU':24} {head}")
        for gpu in status.gpus:
            yield from self._gpu(gpu)
        if status.gpu_problem:
            yield self._style("red", f"  {status.gpu_problem}")

    def _gpu(self, gpu: GpuStatus) -> Iterator[str]:
        busy = "-" if gpu.utilization_percent is None else f"{gpu.utilization_percent}%"
        heat = "-" if gpu.temperature_c is None else f"{gpu.temperature_c}°C"
        reserved = sum(worker.reserved_mib for worker in gpu.workers)
        sizes = " ".join(
            f"{mebibytes(mib):>9}" for mib in (gpu.used_mib, reserved, gpu.free_mib, gpu.total_mib)
        )
        name = f"  slice {gpu.uuid}" if gpu.parent else f"{gpu.index} {gpu.name}"
        yield f"{name[:24]:24} {sizes} {busy:>5} {heat:>5}"
        if gpu.problem:
            yield self._style("red", f"  {gpu.problem}")
        for process in gpu.foreign:
            yield self._style("dim", f"  not ours: {_describe(process)}"[:_WIDTH])

    def _problem(self, state: State, problem: Problem | None) -> Iterator[str]:
        if problem is None or state in (State.READY, State.STOPPED):
            return
        yield self._style("red", f"  {problem.message}")
        if problem.hint:
            yield f"  hint: {problem.hint}"

    def _state(self, state: State) -> str:
        return self._style(_STYLES[state], f"{state.value:8}")

    def _style(self, style: str, text: str) -> str:
        return styled(text, style, self._stream)


def _lines(facts: Sequence[str], width: int) -> list[str]:
    """What is known, separated by commas, in lines that break only between two facts."""
    lines = [""]
    for fact in filter(None, facts):
        joined = f"{lines[-1]}, {fact}" if lines[-1] else fact
        if len(joined) < width or not lines[-1]:
            lines[-1] = joined
        else:
            lines[-1] += ","
            lines.append(fact)
    return lines


def _place(worker: WorkerStatus) -> str:
    """Where a worker is, and how much of its reservation it has taken."""
    if worker.gpu_mib is None or worker.gpu_reserved_mib is None:
        return ""
    where = "+".join(str(index) for index in worker.gpus)
    return f"GPU {where}: {mebibytes(worker.gpu_mib)} of {mebibytes(worker.gpu_reserved_mib)}"


def _describe(process: ForeignProcess) -> str:
    size = "some" if process.used_mib is None else mebibytes(process.used_mib)
    who = f"{process.command} ({process.user}, pid {process.pid})"
    return f"{size}, {who}" if process.command else f"{size}, pid {process.pid}"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _pid(pid: int | None) -> str:
    return "" if pid is None else f"pid {pid}"


def _restarts(restarts: int) -> str:
    return f"{restarts} restarts" if restarts > 1 else "1 restart" if restarts else ""


def _aof(is_on: bool) -> str:
    return "AOF on" if is_on else "AOF off"
