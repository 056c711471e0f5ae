"""Speech written down, by the engines that can. A tone stands for speech: the model is random."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.asked import Media, Speech
from contract.media import facts_of
from contract.messages import ChatMessage, ErrorCode
from tests.engines.contract.conftest import Served
from tests.engines.contract.harness import Answer, Client
from tests.engines.contract.sounds import COMPRESSED, sound_files, tone

pytestmark = pytest.mark.needs("speech")
ENGLISH = Speech(language="en")


def asked(sound: bytes, before: str = "", speech: Speech = ENGLISH) -> dict[str, Any]:
    digest = hashlib.sha256(sound).hexdigest()
    media = (Media("audio", 0, "", digest, len(sound), sound),)
    return {"messages": (ChatMessage("user", before, media=media),), "speech": speech}


def heads(answer: Answer) -> list[dict[str, Any]]:
    return [facts for each in answer.deltas if (facts := facts_of(each)) is not None]


async def test_what_is_heard_and_said_before_decides(client: Client) -> None:
    short = {"max_tokens": 12, "temperature": 0}
    low, high = tone(200, 1), tone(900, 1)
    said = await asyncio.gather(
        client.ask(**asked(low), **short),
        client.ask(**asked(high), **short),
        client.ask(**asked(low), **short),
        client.ask(**asked(low, before="What is ew?"), **short),
        client.ask(**asked(low, speech=Speech("translate", "en")), **short),
    )
    assert said[0].token_ids == said[2].token_ids
    assert len({tuple(each.token_ids) for each in said}) == 4
    assert heads(said[0]) == [{"from": 0.0, "seconds": 1.0, "language": "en"}]
    assert said[0].done.completion_tokens <= 12


async def test_every_usual_form_is_heard(client: Client, tmp_path: Path) -> None:
    forms = sound_files(tmp_path)
    how = {"max_tokens": 12, "temperature": 0}
    names = ("wav", *COMPRESSED)
    said = await asyncio.gather(*(client.ask(**asked(forms[name]), **how) for name in names))
    heard = {name: heads(each)[0]["seconds"] for name, each in zip(names, said, strict=True)}
    assert heard == {name: pytest.approx(1.0, abs=0.03) for name in names}
    # One form of the same samples loses nothing.
    assert said[0].token_ids == said[names.index("flac")].token_ids


async def test_a_long_speech_is_read_in_clips(client: Client) -> None:
    """The model hears two seconds at once."""
    answer = await client.ask(**asked(tone(200, 5)), max_tokens=3, temperature=0)
    starts = [each["from"] for each in heads(answer)]
    assert len(starts) >= 3
    assert starts == sorted(set(starts))
    assert starts[-1] < heads(answer)[0]["seconds"] == 5.0
    assert answer.done.completion_tokens == 3 * len(starts)


async def test_the_language_is_found_out(client: Client) -> None:
    answer = await client.ask(**asked(tone(200, 1), speech=Speech()), max_tokens=3)
    assert len(heads(answer)[0]["language"]) in (2, 3)


async def test_times_are_in_the_text_if_asked_for(client: Client) -> None:
    how = {"max_tokens": 20, "temperature": 0}
    timed = await client.ask(**asked(tone(200, 1), speech=Speech(language="en", timed=True)), **how)
    plain = await client.ask(**asked(tone(200, 1)), **how)
    assert timed.token_ids != plain.token_ids


@pytest.mark.parametrize(
    ("sound", "speech", "reason"),
    [
        (b"RIFF but no more", ENGLISH, "Invalid"),
        (tone(200, 1), Speech(language="klingon"), "klingon"),
        (tone(200, 3), Speech(language="en", most_s=2), "max_speech_s"),
    ],
)
async def test_a_speech_that_cannot_be_read_is_refused(
    client: Client, sound: bytes, speech: Speech, reason: str
) -> None:
    refused = (await client.ask(**asked(sound, speech=speech))).failed
    assert (refused.code, refused.retryable) == (ErrorCode.INVALID_REQUEST, False)
    assert reason in refused.message


async def test_other_jobs_are_refused(client: Client) -> None:
    refused = (await client.ask("What is ew?")).failed
    assert refused.code is ErrorCode.INVALID_REQUEST
    assert "/v1/audio/transcriptions" in refused.message


async def test_a_speech_is_begun_again_where_its_worker_died(
    served: Served, client: Client
) -> None:
    how = {"max_tokens": 40, "temperature": 0, "ignore_eos": True}
    sound = asked(tone(200, 9))
    undisturbed = await client.ask(**sound, **how)
    answer = await client.put(**sound, **how)
    await answer.speaks(deltas=20)
    killed = served.worker(await client.holder(answer))
    killed.kill()
    await client.forget_worker(killed.name)
    await served.ensure_worker()
    await answer.ended()
    assert len(answer.attempts) == 2
    assert answer.text == undisturbed.text
    assert msgspec.structs.replace(answer.done, cached_tokens=0) == undisturbed.done


async def test_a_speech_is_given_up(client: Client) -> None:
    how = {"max_tokens": 40, "temperature": 0, "ignore_eos": True}
    answer = await client.put(**asked(tone(200, 20)), **how)
    await answer.speaks(deltas=5)
    await client.cancel(answer)
    while await client.state(answer) != "cancelled":  # noqa: ASYNC110 - Redis has no event for it
        await asyncio.sleep(0.05)
    assert (await client.ask(**asked(tone(200, 1)), max_tokens=3)).done
