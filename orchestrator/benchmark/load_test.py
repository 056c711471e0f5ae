"""The runs of a load test: levels of concurrency, or a recording, on one server or two in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from orchestrator.benchmark.load_generator import (
    BUSY,
    LoadGenerator,
    RunInterruptedError,
    most_processes,
    usual_processes,
)
from orchestrator.benchmark.measurement import Measurement
from orchestrator.benchmark.sender_task import Arrival, Endpoint, PromptPattern, SenderTask
from orchestrator.benchmark.tally import Tally
from orchestrator.errors import UserError

#: A model on demand may have to be loaded for the first request.
_FIRST_ANSWER_S: Final = 600.0
#: A recording ends so long after its last request, whatever is open then.
_LINGER_S: Final = 60.0
PATHS: Final = {"chat": "/chat/completions", "completions": "/completions"}
#: Has what is done now.
Told = Callable[[str], object]


class ServerUnderTest(NamedTuple):
    """One server of the test, what asks it, and what it is asked for."""

    name: str
    endpoint: Endpoint
    model: str


class Sweep(NamedTuple):
    """Every level of concurrency for `seconds`, after `warm_up_s` of the highest."""

    levels: Sequence[int]
    seconds: float
    warm_up_s: float
    tokens: int
    words: int
    api: str
    ends_naturally: bool

    def prompts(self, model: str) -> PromptPattern:
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": self.tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if not self.ends_naturally:
            body["ignore_eos"] = True
        return PromptPattern(PATHS[self.api], body, self.words)


class LoadTest:
    """Runs a test on its servers. `runs` may raise `UserError`, and `KeyboardInterrupt` after it
    has yielded what was measured until then."""

    def __init__(
        self, servers: Sequence[ServerUnderTest], processes: int | None, told: Told
    ) -> None:
        self._servers = servers
        self._processes = processes
        self._told = told

    def sweep(self, sweep: Sweep) -> Iterator[Measurement]:
        """Yield each run. The servers take turns at going first."""
        for server in self._servers:
            self._first_answer(server, sweep)
        for server in self._servers:
            if sweep.warm_up_s:
                task = self._task(server, sweep, max(sweep.levels), sweep.warm_up_s)
                self._run(task, f"{server.name}: warm-up")
        turns = list(enumerate(self._servers))
        for round_number, streams in enumerate(sweep.levels):
            for number, server in turns if round_number % 2 == 0 else turns[::-1]:
                task = self._task(server, sweep, streams, sweep.seconds)
                yield from self._measure(task, number, server)

    def replay(
        self, recordings: Sequence[list[Arrival]], seconds: float | None
    ) -> Iterator[Measurement]:
        """Yield the run of each server's recording, of which `seconds` are the longest."""
        for number, (server, arrivals) in enumerate(zip(self._servers, recordings, strict=True)):
            limit = arrivals[-1].at_s + _LINGER_S if seconds is None else seconds
            task = SenderTask(server.endpoint, limit, arrivals=arrivals)
            yield from self._measure(task, number, server)

    def _task(
        self, server: ServerUnderTest, sweep: Sweep, streams: int, seconds: float
    ) -> SenderTask:
        return SenderTask(server.endpoint, seconds, streams, sweep.prompts(server.model))

    def _first_answer(self, server: ServerUnderTest, sweep: Sweep) -> None:
        """See that the server answers. Raises `UserError` with what it says if not."""
        pattern = sweep.prompts(server.model)
        path, body = pattern.example()
        task = SenderTask(server.endpoint, _FIRST_ANSWER_S, arrivals=[Arrival(0, path, body)])
        tally, _ = self._run(task, f"{server.name}: the first answer")
        if not tally.good:
            said = next(iter(tally.errors), f"no answer within {_FIRST_ANSWER_S:.0f} s")
            hint = "see that the server runs, and that it has this model"
            if said.startswith("400"):
                hint = "`--api completions` asks models without a chat template, `--natural-end`"
                hint += " leaves out `ignore_eos`, which not every server knows"
            raise UserError(f"{server.name} does not answer for `{server.model}`: {said}", hint)

    def _measure(
        self, task: SenderTask, number: int, server: ServerUnderTest
    ) -> Iterator[Measurement]:
        streams = task.streams or None
        doing = f"{server.name}: {streams} streams" if streams else f"{server.name}: the recording"
        try:
            tally, processes = self._run_unlimited(task, doing)
        except RunInterruptedError as run:
            yield Measurement.of(run.tally, run.processes, number, streams, is_interrupted=True)
            raise
        yield Measurement.of(tally, processes, number, streams, is_interrupted=False)

    def _run_unlimited(self, task: SenderTask, doing: str) -> tuple[Tally, int]:
        """Run a load; once more, with more processes, if those that did it were the limit."""
        tally, processes = self._run(task, doing)
        if self._processes is None and tally.busiest > BUSY and processes < most_processes():
            more = min(most_processes(), 2 * processes)
            self._told(f"{doing}: again, by {more} processes instead of {processes}")
            return self._run(task, doing, more)
        return tally, processes

    def _run(self, task: SenderTask, doing: str, processes: int | None = None) -> tuple[Tally, int]:
        wanted = processes or self._processes or usual_processes(task.streams or len(task.arrivals))
        generator = LoadGenerator(task, wanted)

        def tell(seconds: float) -> None:
            self._told(f"{doing}, {seconds:.0f} of {task.seconds:.0f} s at most")

        return generator.run(tell), generator.processes
