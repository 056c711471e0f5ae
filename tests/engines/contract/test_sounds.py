"""Sounds in chats: the model hears each at its place in the turn, also after its worker has
died."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.asked import Media
from contract.messages import ChatMessage, ErrorCode
from tests.engines.contract.conftest import Served
from tests.engines.contract.harness import Client
from tests.engines.contract.sounds import sound_files, tone

pytestmark = pytest.mark.needs("sounds")
SHORT: dict[str, Any] = {"max_tokens": 12, "ignore_eos": True}
LONG: dict[str, Any] = {"max_tokens": 400, "ignore_eos": True}


def sound(data: bytes, at: int = 0, most_s: float = 600) -> Media:
    digest = hashlib.sha256(data).hexdigest()
    return Media("audio", at, "audio/wav", digest, len(data), data, most_s=most_s)


def asked(*media: Media) -> tuple[ChatMessage, ...]:
    return (ChatMessage("user", "what is this?", media=media),)


async def test_each_sound_is_heard(client: Client) -> None:
    low, high = tone(200, 1), tone(900, 1)
    turns = (
        asked(sound(low)),
        asked(sound(high)),
        asked(sound(low)),
        asked(sound(low), sound(high, at=4)),
        asked(),
    )
    answers = await asyncio.gather(*(client.ask(messages=each, **SHORT) for each in turns))
    first, other, again, of_both, of_none = answers
    assert first.token_ids == again.token_ids
    assert len({tuple(each.token_ids) for each in (first, other, of_both, of_none)}) == 4
    counts = [each.done.prompt_tokens for each in answers]
    a_sound = counts[0] - counts[4]
    assert a_sound > 1
    assert counts == [counts[0], counts[0], counts[0], counts[4] + 2 * a_sound, counts[4]]


async def test_every_usual_form_is_heard(client: Client, tmp_path: Path) -> None:
    forms = sound_files(tmp_path)
    answers = await asyncio.gather(
        *(client.ask(messages=asked(sound(each)), **SHORT) for each in forms.values())
    )
    said = dict(zip(forms, answers, strict=True))
    # One form of the same samples loses nothing; each is about as long.
    assert said["wav"].token_ids == said["flac"].token_ids
    lengths = [each.done.prompt_tokens for each in answers]
    assert max(lengths) - min(lengths) <= 1
    none = await client.ask(messages=asked(), **SHORT)
    assert none.done.prompt_tokens + 10 < min(lengths)


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        ([sound(b"RIFF but no more")], "the messages cannot be read"),
        ([sound(tone(200, 2), most_s=1.5)], "max_speech_s"),
        # All of them together.
        ([sound(tone(200, 1), most_s=1.5), sound(tone(300, 1), most_s=1.5)], "max_speech_s"),
    ],
)
async def test_a_sound_that_cannot_be_read_is_refused_and_harms_no_other(
    client: Client, media: list[Media], reason: str
) -> None:
    good = await client.put(messages=asked(sound(tone(200, 1), most_s=1.5)), **SHORT)
    refused = (await client.ask(messages=asked(*media), **SHORT)).failed
    assert (refused.code, refused.retryable) == (ErrorCode.INVALID_REQUEST, False)
    assert reason in refused.message
    assert (await good.ended()).done.completion_tokens == 12


async def test_an_answer_about_a_sound_goes_on_in_another_worker(
    served: Served, client: Client
) -> None:
    messages = asked(sound(tone(400, 1)))
    undisturbed = await client.ask(messages=messages, **LONG)
    answer = await client.put(messages=messages, **LONG)
    await answer.speaks(deltas=10)
    killed = served.worker(await client.holder(answer))
    killed.kill()
    await client.forget_worker(killed.name)
    await served.ensure_worker()
    await answer.ended()
    assert len(answer.attempts) == 2
    # Beyond the seam the last bits of sums differ, and the model is random.
    kept = answer.token_ids[:10]
    assert kept == undisturbed.token_ids[: len(kept)]
    assert msgspec.structs.replace(answer.done, cached_tokens=0) == msgspec.structs.replace(
        undisturbed.done, cached_tokens=0
    )
