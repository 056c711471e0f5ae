"""Images: the model sees each at its place in the turn, also after its worker has died."""

from __future__ import annotations

import asyncio
import hashlib
import io

import msgspec
import pytest
from PIL import Image

from contract.asked import Media, PromptReport
from contract.messages import ChatMessage, ErrorCode
from tests.engines.contract.conftest import Served
from tests.engines.contract.harness import Answer, Client

pytestmark = pytest.mark.needs("images")
LONG = {"ignore_eos": True, "max_tokens": 400}


def picture(color: str, at: int = 0, kind: str = "image/png") -> Media:
    written = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(written, "PNG")
    data = written.getvalue()
    return Media("image", at, kind, hashlib.sha256(data).hexdigest(), len(data), data)


def asked(*media: Media, text: str = "what is this?") -> tuple[ChatMessage, ...]:
    return (ChatMessage("user", text, media=media),)


async def test_each_image_is_seen(client: Client) -> None:
    how = {"max_tokens": 12, "ignore_eos": True}
    red, blue = asked(picture("red")), asked(picture("blue"))
    both = asked(picture("red"), picture("blue", at=4))
    answers = await asyncio.gather(
        *(client.ask(messages=each, **how) for each in (red, blue, red, both, asked()))
    )
    first, other, again, of_both, of_none = answers
    assert first.text == again.text
    assert len({each.text for each in (first, other, of_both, of_none)}) == 4
    counts = [each.done.prompt_tokens for each in answers]
    an_image = counts[0] - counts[4]
    assert an_image > 1
    assert counts == [counts[0], counts[0], counts[0], counts[4] + 2 * an_image, counts[4]]


@pytest.mark.needs("tokenizer")
async def test_the_tokens_of_a_prompt_are_those_that_the_model_sees(client: Client) -> None:
    messages = asked(picture("red"))
    seen = (await client.ask(messages=messages, max_tokens=1)).done.prompt_tokens
    told = await client.ask(messages=messages, report=PromptReport(only=True))
    assert len(told.prompt_ids) == seen


@pytest.mark.needs("tokens")
async def test_an_answer_about_an_image_goes_on_in_another_worker(
    served: Served, client: Client
) -> None:
    messages = asked(picture("green"))
    undisturbed = await client.ask(messages=messages, **LONG)
    answer = await _frozen_mid_answer(served, client, messages)
    killed = served.worker(await client.holder(answer))
    killed.kill()
    await client.forget_worker(killed.name)
    await served.ensure_worker()
    await answer.ended()
    assert len(answer.attempts) == 2
    # Beyond the seam the last bits of sums differ, and the model is random.
    kept = answer.token_ids[:100]
    assert kept == undisturbed.token_ids[: len(kept)]
    assert msgspec.structs.replace(answer.done, cached_tokens=0) == msgspec.structs.replace(
        undisturbed.done, cached_tokens=0
    )


async def _frozen_mid_answer(
    served: Served, client: Client, messages: tuple[ChatMessage, ...]
) -> Answer:
    while True:
        answer = await client.put(messages=messages, **LONG)
        await answer.speaks(deltas=10)
        worker = served.worker(await client.holder(answer))
        worker.freeze()
        await client.catch_up()
        if answer.end is None:
            return answer
        worker.thaw()


async def test_what_cannot_be_read_is_refused_and_harms_no_other(client: Client) -> None:
    broken = msgspec.structs.replace(picture("red"), data=b"\x89PNG broken")
    good = await client.put(messages=asked(picture("red")), max_tokens=12)
    refused = (await client.ask(messages=asked(broken), max_tokens=12)).failed
    assert (refused.code, refused.retryable) == (ErrorCode.INVALID_REQUEST, False)
    assert (await good.ended()).done.completion_tokens <= 12
    many = asked(*(picture("red") for _ in range(2_000 // 4)))
    long = (await client.ask(messages=many, max_tokens=12)).failed
    assert long.code in (ErrorCode.PROMPT_TOO_LONG, ErrorCode.INVALID_REQUEST)
    assert (await client.ask(messages=asked(picture("red")), max_tokens=3)).done
