"""The words for a job that is not taken, or waited in vain."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import RedisError, ResponseError

from contract.messages import State, Status
from gateway.jobs import patient_link
from gateway.jobs.patient_link import BackendDown, PatientLink
from gateway.jobs.refusals import not_served
from gateway.streams.link import Link
from gateway.streams.reply_phase import ReplyPhase, took_too_long


def test_a_model_that_was_just_stopped_is_not_called_starting() -> None:
    refused = not_served("m", State.READY, "")
    assert refused.message == "model `m` has no worker at the moment; ask again soon"
    starts = not_served("m", State.STARTING, "waiting for the server behind it")
    assert "is starting: waiting for the server behind it;" in starts.message
    assert not_served("m", State.STOPPED, "").code == "model_not_started"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ResponseError("MISCONF Errors writing to the AOF file"),
            "takes nothing in: `./ew status`",
        ),
        (LostConnection("closed"), "does not answer"),
    ],
)
async def test_a_queue_that_takes_no_writes_is_told_from_one_that_is_away(
    error: RedisError, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient_link, "PATIENCE_S", 0.02)

    async def ask() -> None:
        raise error

    with pytest.raises(BackendDown, match=said):
        await PatientLink(Link(), 1).ask(ask)


def test_who_waited_too_long_for_a_model_is_told_what_it_waited_for() -> None:
    waited = Status("loading: waiting for the server behind it")
    too_long = took_too_long(ReplyPhase.QUEUE, waited)
    assert too_long.message.endswith("; it waited for its model: " + waited.stage)
    assert took_too_long(ReplyPhase.TOKENS, waited).message == "the answer took too long"
