"""Rights and limits of a key count as they are whenever its job is put."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contract.keys import KeyRecord, make_key
from contract.limits import KeyLimits
from contract.messages import Job, Sampling
from gateway.background import unattended
from gateway.background.events import GatheredEvents
from gateway.background.unattended import Errand, Unattended
from gateway.http.errors import ApiError
from gateway.streams.reply import Reply

LIMITED = make_key("k", limits=KeyLimits(requests_per_minute=1)).record
FREE = make_key("k").record
#: An end that is not tried again.
TAKEN = ApiError("poison", "it was taken")


class Admission:
    """Takes jobs of keys without limits."""

    def __init__(self) -> None:
        self.asked: list[KeyRecord] = []

    async def admit(self, job: Job, answer: Any, context: Any, once: Any) -> Any:
        self.asked.append(context.key)
        if context.key.limits:
            raise ApiError("limit_reached", "no room")
        answer.fail(TAKEN)


async def ask(admission: Any, find_key: Callable[[str], KeyRecord | None]) -> ApiError | None:
    async def note(reply: Reply) -> None:
        pass

    job = Job("j", "m", Sampling(), "x")
    errand = Errand("j", job, LIMITED.id, "j", 60)
    return (await Unattended(admission, find_key).ask(errand, GatheredEvents, note)).error


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unattended, "_FIRST_RETRY_S", 0.001)


async def test_a_job_that_waits_is_put_once_its_keys_limits_are_lifted() -> None:
    admission, records = Admission(), iter((LIMITED, LIMITED, FREE))
    assert await ask(admission, lambda _: next(records)) is TAKEN
    assert admission.asked == [LIMITED, LIMITED, FREE]


async def test_a_job_that_waits_ends_with_its_key() -> None:
    admission, records = Admission(), iter((LIMITED, None))
    error = await ask(admission, lambda _: next(records))
    assert error is not None
    assert (error.code, admission.asked) == ("key_ended", [LIMITED])


async def test_a_job_waits_while_keys_cannot_be_looked_up() -> None:
    looked = iter((False, False, True))

    def find(_: str) -> KeyRecord:
        if not next(looked):
            raise ApiError("keys_unreadable", "not now")
        return FREE

    admission = Admission()
    assert await ask(admission, find) is TAKEN
    assert admission.asked == [FREE]
