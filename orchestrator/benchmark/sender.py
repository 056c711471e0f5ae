"""One process of the load generator: `python -m orchestrator.benchmark.sender`.

Reads its `SenderTask` as a line of JSON from stdin, writes a line when it is ready, begins at the
next line, ends early when stdin does, and writes its `Tally` as JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, Final

import msgspec
import uvloop

from orchestrator.benchmark.http_connection import HttpConnections
from orchestrator.benchmark.measured_answer import MeasuredAnswer
from orchestrator.benchmark.sender_task import Arrival, SenderTask
from orchestrator.benchmark.tally import Tally

#: So long a stream waits after an error: what refuses is not to be asked all the time.
_AFTER_ERROR_S: Final = 0.2
_LOOK_EVERY_S: Final = 0.05


class Sender:
    """Does one assignment, and counts."""

    def __init__(self, assignment: SenderTask) -> None:
        self._assignment = assignment
        self._connections = HttpConnections(assignment.endpoint)
        self._tally = Tally()

    async def run(self, is_over: asyncio.Event) -> Tally:
        """Send until it is over, all is answered, or the time is up."""
        self._tally.begin()
        ticking = asyncio.create_task(self._tick())
        tasks = [asyncio.create_task(self._keep_asking()) for _ in range(self._assignment.streams)]
        tasks += [asyncio.create_task(self._replay(each)) for each in self._assignment.arrivals]
        ending = asyncio.ensure_future(is_over.wait())
        working: asyncio.Future[Any] = asyncio.gather(*tasks)
        await asyncio.wait(
            (working, ending),
            timeout=self._assignment.seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        self._tally.end()
        if working.done():
            # A defect of ours is told.
            working.result()
        rest = (ticking, ending, working)
        for each in rest:
            each.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        return self._tally

    async def _keep_asking(self) -> None:
        prompts = self._assignment.prompts
        assert prompts is not None  # noqa: S101 - streams have prompts
        while True:
            if not await self._ask(*prompts.example(), None):
                await asyncio.sleep(_AFTER_ERROR_S)

    async def _replay(self, arrival: Arrival) -> None:
        due = self._tally.began + arrival.at_s
        await asyncio.sleep(due - time.monotonic())
        await self._ask(arrival.path, arrival.body, due)

    async def _ask(self, path: str, body: dict[str, Any], due: float | None) -> bool:
        answer = MeasuredAnswer(self._tally, due)
        try:
            await self._connections.post(path, msgspec.json.encode(body), answer)
        except asyncio.CancelledError:
            self._tally.cut += 1
            raise
        except OSError as error:
            self._tally.fail(str(error) or type(error).__name__)
            return False
        return answer.finish()

    async def _tick(self) -> None:
        """See by how much this process is late."""
        while True:
            due = time.monotonic() + _LOOK_EVERY_S
            await asyncio.sleep(_LOOK_EVERY_S)
            self._tally.late.add(time.monotonic() - due)


async def _main() -> None:
    assignment = msgspec.json.decode(sys.stdin.buffer.readline(), type=SenderTask)
    sender = Sender(assignment)
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.buffer.flush()
    if not sys.stdin.buffer.readline():
        return
    is_over = asyncio.Event()
    # The line above was the last one, so that no byte is left in the buffer.
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), is_over.set)
    tally = await sender.run(is_over)
    sys.stdout.buffer.write(msgspec.json.encode(tally))


if __name__ == "__main__":
    uvloop.run(_main())
