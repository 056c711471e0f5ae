"""Workers that die, and workers that are told to stop. Last of all, for it leaves no worker."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from contract.asked import Template
from tests.engines.contract.conftest import Served
from tests.engines.contract.engines import SLOTS
from tests.engines.contract.harness import Answer, Client, WorkerProcess
from tests.engines.contract.questions import COUNT

LONG = {"ignore_eos": True, "max_tokens": 900}
#: Characters after the seam that must be as undisturbed. Beyond its own answer the demo model makes
#: up questions, some equally likely; there the last bits of a sum decide, which differ between a
#: prefill and the same tokens one by one.
_AFTER_THE_SEAM = 200


async def test_a_worker_killed_mid_answer_is_followed_by_another(
    served: Served, client: Client
) -> None:
    undisturbed = await client.ask(COUNT, **LONG)
    answer, killed = await _frozen_mid_answer(served, client)
    compared = len(answer.text) + _AFTER_THE_SEAM
    killed.kill()
    await client.forget_worker(killed.name)
    await served.ensure_worker()
    await answer.ended()
    assert len(answer.attempts) == 2
    assert answer.text[:compared] == undisturbed.text[:compared]
    # A successor has not what its predecessor kept of the prompt.
    assert msgspec.structs.replace(answer.done, cached_tokens=0) == msgspec.structs.replace(
        undisturbed.done, cached_tokens=0
    )


@pytest.mark.needs("parsers", "model")
@pytest.mark.parametrize("deltas", [3, 30])
async def test_a_thought_and_what_follows_it_go_on_where_their_worker_died(
    served: Served, client: Client, deltas: int
) -> None:
    thinks = {"template": Template('{"enable_thinking": true}'), "max_tokens": 120}
    undisturbed = await client.ask(COUNT, **LONG | thinks)
    answer, killed = await _frozen_mid_answer(served, client, deltas, **thinks)
    killed.kill()
    await client.forget_worker(killed.name)
    await served.ensure_worker()
    await answer.ended()
    assert len(answer.attempts) == 2
    assert answer.reasoning
    assert (answer.reasoning, answer.text) == (undisturbed.reasoning, undisturbed.text)
    assert answer.done.reasoning_tokens == undisturbed.done.reasoning_tokens


@pytest.mark.needs("quick start")
async def test_another_worker_goes_on_with_what_a_stopped_one_gave_back(
    served: Served, client: Client
) -> None:
    undisturbed = await client.ask(COUNT, **LONG)
    other = served.start_worker()
    await other.wait_until_ready(served.engine.start_timeout_s)
    answer = await client.put(COUNT, **LONG)
    await answer.speaks()
    leaving = served.worker(await client.holder(answer))
    leaving.terminate()
    await answer.ended()
    assert answer.text == undisturbed.text
    assert answer.done == undisturbed.done
    assert await client.holder(answer) != leaving.name
    assert await leaving.exit_code(timeout_s=30) == 0


async def test_a_worker_told_to_stop_finishes_what_it_can_and_gives_back_the_rest(
    served: Served, client: Client
) -> None:
    short = await client.put(COUNT, max_tokens=5)
    # So many at once that the fastest machine is not through with them before it must leave.
    long = [await client.put(COUNT, **LONG) for _ in range(SLOTS - 1)]
    await asyncio.gather(*(answer.speaks() for answer in (short, *long)))
    leaving = served.worker(await client.holder(long[0]))
    leaving.terminate()
    assert await leaving.exit_code(timeout_s=30) == 0
    assert (await short.ended()).done.completion_tokens == 5
    assert all(answer.end is None for answer in long)
    given_back = await client.queue.take_over("another", count=SLOTS)
    assert {claim.job_id for claim in given_back} == {answer.job.id for answer in long}


async def _frozen_mid_answer(
    served: Served, client: Client, deltas: int = 10, **how: Any
) -> tuple[Answer, WorkerProcess]:
    """Return an answer, and the worker that is in the middle of it and stands still. On a busy
    machine an answer may be complete before anybody looks; then there is another."""
    while True:
        answer = await client.put(COUNT, **LONG | how)
        await answer.speaks(deltas)
        worker = served.worker(await client.holder(answer))
        worker.freeze()
        await client.catch_up()
        if answer.end is None:
            return answer, worker
        worker.thaw()
