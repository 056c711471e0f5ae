"""The status document as text that is nowhere wider than the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TextIO

from contract.messages import State
from contract.paths import as_called, state_dir
from contract.supervision.problem import Problem
from contract.supervision.status import (
    ConfigStatus,
    ForeignProcess,
    GatewayStatus,
    GpuStatus,
    ModelStatus,
    RedisStatus,
    RunStatus,
    SupervisorStatus,
    WorkerStatus,
)
from orchestrator.cli.status_screen.model_remarks import remarks_on
from orchestrator.cli.status_screen.other_hosts import host_lines
from orchestrator.system.disk import is_full
from orchestrator.terminal.fitting import cells, clipped, joined, padded, shortened, wrapped
from orchestrator.terminal.speech import duration, mebibytes, printable, styled

_STYLES: Final = {
    State.READY: "green",
    State.STARTING: "yellow",
    State.SLEEPING: "cyan",
    State.STOPPING: "yellow",
    State.FAILED: "red",
    State.STOPPED: "dim",
}
_STALE_AFTER_S: Final = 5.0
WIDTH: Final = 80
_MOST_KEYS: Final = 3
_NARROWEST: Final = 60
_FACTS_FROM: Final = 21
#: Columns beside the name of a worker, and of a GPU.
_WORKER_FIGURES: Final = 51
_GPU_NAME: Final = 24


class StatusTable(NamedTuple):
    """A table: its title, and the rows below it."""

    title: str
    rows: list[str]


class StatusText:
    """Writes lines for one stream, whose abilities decide about colour."""

    def __init__(self, stream: TextIO, width: int = WIDTH) -> None:
        self._stream = stream
        #: A narrower terminal sees what fits.
        self._width = max(width, _NARROWEST)
        self._seen_width = width

    def lines(self, status: RunStatus, now_unix_s: float) -> list[str]:
        """All of it."""
        lines = self.head(status, now_unix_s)
        for table in self.tables(status, now_unix_s):
            lines += ["", table.title, *table.rows]
        return lines

    def head(self, status: RunStatus, now_unix_s: float) -> list[str]:
        """Return the lines about the supervisor, the gateway, Redis and the configuration."""
        return self._fitted(self._head(status, now_unix_s))

    def tables(self, status: RunStatus, now_unix_s: float) -> list[StatusTable]:
        """Return the tables of models and GPUs."""
        tables = (
            self._models(status.models, now_unix_s),
            self._gpus(status),
            host_lines(status.others, self._width, self._style),
        )
        found = (self._fitted(table) for table in tables)
        return [StatusTable(lines[0], lines[1:]) for lines in found if lines]

    def _fitted(self, lines: Iterator[str]) -> list[str]:
        return [clipped(as_called(line), self._seen_width) for line in lines]

    def _head(self, status: RunStatus, now: float) -> Iterator[str]:
        if status.supervisor is None:
            yield "nothing runs; `./ew start` starts what is configured"
        else:
            yield from self._supervisor(status.supervisor, now - status.written_unix_s, now)
        if status.gateway:
            yield from self._gateway(status.gateway, now)
        if status.redis:
            yield from self._redis(status.redis, now)
        for problem in filter(None, (status.host_problem, status.keys_problem)):
            yield from self._wrapped("red", problem)
        yield from self._config(status.config)

    def _config(self, config: ConfigStatus) -> Iterator[str]:
        """Yield how the file differs from the running configuration."""
        if config.problem:
            yield from self._wrapped("red", f"the configuration cannot be used: {config.problem}")
        elif config.waiting:
            more = len(config.waiting) - _MOST_KEYS
            keys = ", ".join(config.waiting[:_MOST_KEYS]) + (
                f" and {more} more" if more > 0 else ""
            )
            text = f"config.json differs from what runs (`./ew config diff`): {keys}"
            yield from self._wrapped("yellow", text)

    def _supervisor(self, supervisor: SupervisorStatus, age_s: float, now: float) -> Iterator[str]:
        if not supervisor.alive:
            gone = f"the supervisor (pid {supervisor.pid}) is gone"
            yield self._style("red", f"{gone}; `./ew start` takes over what is left:")
            return
        up = duration(now - supervisor.since_unix_s)
        yield f"supervisor  {self._state(State.READY)} pid {supervisor.pid}, up {up}"
        if age_s > _STALE_AFTER_S:
            yield from self._wrapped("red", f"it has not written for {duration(age_s)}: {_why()}")

    def _gateway(self, gateway: GatewayStatus, now: float) -> Iterator[str]:
        facts = [
            gateway.url,
            f"{len(gateway.processes)} processes" if len(gateway.processes) > 1 else "",
            f"{gateway.open_streams} streams" if gateway.open_streams else "",
            _pid(gateway.pid),
            f"up {duration(now - gateway.since_unix_s)}" if gateway.state is State.READY else "",
            _restarts(gateway.restarts, gateway.problem),
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
            _restarts(redis.restarts, redis.problem),
        ]
        yield from self._server(name, redis.state, [redis.stage, *facts])
        yield from self._problem(redis.state, redis.problem)

    def _server(self, name: str, state: State, facts: Sequence[str]) -> Iterator[str]:
        head = f"{name:11} {self._state(state)} "
        for line in _lines(facts, self._width - _FACTS_FROM):
            yield f"{head}{line}".rstrip()
            head = " " * _FACTS_FROM

    def _models(self, models: Sequence[ModelStatus], now: float) -> Iterator[str]:
        if not models:
            return
        names = (cells(worker.slot) for model in models for worker in model.workers)
        width = max(10, min(self._width - _WORKER_FIGURES, max(names, default=0)))
        yield self._style(
            "bold", f"{'WORKER':{width}}  STATE     QUEUE  RUN   TOK/S     MEMORY  UP"
        )
        for model in models:
            for worker in model.workers:
                yield from self._worker(model, worker, width, now)
            for remark in remarks_on(model):
                yield from self._wrapped("dim", remark)

    def _worker(
        self, model: ModelStatus, worker: WorkerStatus, width: int, now: float
    ) -> Iterator[str]:
        queue = "-" if model.waiting is None else str(model.waiting)
        memory = "-" if worker.rss_mib is None else mebibytes(worker.rss_mib)
        up = duration(now - worker.since_unix_s) if worker.pid else "-"
        name = padded(shortened(worker.slot, width), width)
        yield (
            f"{name}  {self._state(worker.state)} {queue:>5} {worker.running:4}"
            f" {worker.tokens_per_s:7.1f} {memory:>10}  {up}"
        )
        facts = [
            f"{worker.engine} {worker.version}".strip(),
            f"env {worker.env}",
            _pid(worker.pid),
            _place(worker),
            _restarts(worker.restarts, worker.problem),
            "pinned" if model.pinned else "",
            worker.stage,
            worker.remark,
        ]
        for line in _lines(facts, self._width - 2):
            yield self._style("dim", f"  {line}")
        yield from self._problem(worker.state, worker.problem)

    def _gpus(self, status: RunStatus) -> Iterator[str]:
        if not status.gpus:
            return
        head = f"{'USED':>9} {'RESERVED':>9} {'FREE':>9} {'OF':>9} {'BUSY':>5} {'TEMP':>5}"
        yield self._style("bold", f"{'GPU':{_GPU_NAME}} {head}")
        for gpu in status.gpus:
            yield from self._gpu(gpu)
        if status.gpu_problem:
            yield from self._wrapped("red", status.gpu_problem)

    def _gpu(self, gpu: GpuStatus) -> Iterator[str]:
        busy = "-" if gpu.utilization_percent is None else f"{gpu.utilization_percent}%"
        heat = "-" if gpu.temperature_c is None else f"{gpu.temperature_c}°C"
        reserved = sum(worker.reserved_mib for worker in gpu.workers)
        sizes = " ".join(
            f"{mebibytes(mib):>9}" for mib in (gpu.used_mib, reserved, gpu.free_mib, gpu.total_mib)
        )
        name = f"  slice {gpu.uuid}" if gpu.parent else f"{gpu.index} {gpu.name}"
        yield f"{padded(clipped(name, _GPU_NAME), _GPU_NAME)} {sizes} {busy:>5} {heat:>5}"
        if gpu.problem:
            yield from self._wrapped("red", gpu.problem)
        for process in gpu.foreign:
            yield self._style("dim", f"  not ours: {_describe(process)}")

    def _problem(self, state: State, problem: Problem | None) -> Iterator[str]:
        if problem is None or state in (State.READY, State.STOPPED):
            return
        yield from self._wrapped("red", problem.message)
        if problem.hint:
            yield from self._wrapped("", f"hint: {problem.hint}")

    def _wrapped(self, style: str, text: str) -> Iterator[str]:
        """Yield all of a text, however many lines it takes."""
        for line in wrapped(printable(text), self._width - 2):
            yield self._style(style, f"  {line}") if style else f"  {line}"

    def _state(self, state: State) -> str:
        return self._style(_STYLES[state], f"{state.value:8}")

    def _style(self, style: str, text: str) -> str:
        return styled(text, style, self._stream)


def _lines(facts: Sequence[str], width: int) -> list[str]:
    return joined([printable(fact) for fact in facts if fact], width) or [""]


def _place(worker: WorkerStatus) -> str:
    """Where a worker is, and how much of its reservation it has taken."""
    if worker.gpu_mib is None or worker.gpu_reserved_mib is None:
        return ""
    where = "+".join(str(index) for index in worker.gpus)
    return f"GPU {where}: {mebibytes(worker.gpu_mib)} of {mebibytes(worker.gpu_reserved_mib)}"


def _describe(process: ForeignProcess) -> str:
    size = "some" if process.used_mib is None else mebibytes(process.used_mib)
    who = printable(f"{process.command} ({process.user}, pid {process.pid})")
    return f"{size}, {who}" if process.command else f"{size}, pid {process.pid}"


def _pid(pid: int | None) -> str:
    return "" if pid is None else f"pid {pid}"


def _restarts(restarts: int, last: Problem | None) -> str:
    """How often it was started again, and what ended it the last time."""
    count = f"{restarts} restarts" if restarts > 1 else "1 restart" if restarts else ""
    return f"{count} (the last: {last.message})" if count and last else count


def _why() -> str:
    """Why the supervisor may not have written its status."""
    place = state_dir()
    if place.is_dir() and is_full(place):
        return f"the disk is full; free some space (`df -h {place}`)"
    return "is it stuck?"


def _aof(is_on: bool) -> str:
    return "AOF on" if is_on else "AOF off"
