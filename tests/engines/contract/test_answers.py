"""The text of answers: exact, streamed, and cut where it was asked to be."""

from __future__ import annotations

import asyncio

import pytest

from tests.engines.contract.conftest import Served
from tests.engines.contract.harness import Client
from tests.engines.contract.questions import ALPHABETS, ANSWERS, COUNT, HELLO


async def test_the_pieces_of_an_answer_are_the_answer(client: Client) -> None:
    first = await client.ask(COUNT, max_tokens=30)
    second = await client.ask(COUNT, max_tokens=30)
    assert len(first.deltas) > 1
    assert first.text == second.text != ""


@pytest.mark.needs("structural tags")
async def test_tokens_take_the_short_way(client: Client, served: Served) -> None:
    """vLLM's; where one does not, the worker says so (`workers/engines/vllm/shortcut.py`)."""
    answer = await client.ask(COUNT, max_tokens=30)
    assert len(answer.deltas) > 10
    assert all("vLLM's own way" not in worker.log.read_text() for worker in served.workers)


@pytest.mark.needs("model")
async def test_every_question_is_answered_as_trained_with_64_at_once(client: Client) -> None:
    questions = (list(ANSWERS) * 2)[:64]
    answers = [await client.put(question) for question in questions]
    await asyncio.gather(*(answer.ended() for answer in answers))
    assert {answer.job.messages[0].content: answer.text for answer in answers} == ANSWERS
    assert {answer.done.finish_reasons for answer in answers} == {("stop",)}


async def test_64_jobs_at_once_do_not_mix(client: Client) -> None:
    lengths = range(1, 65)
    answers = [await client.put(COUNT, max_tokens=length) for length in lengths]
    await asyncio.gather(*(answer.ended() for answer in answers))
    longest = answers[-1].text
    assert all(longest.startswith(answer.text) for answer in answers)
    assert [answer.done.completion_tokens for answer in answers] == list(lengths)


@pytest.mark.needs("model")
async def test_characters_that_span_tokens_arrive_whole(client: Client) -> None:
    answer = await client.ask(ALPHABETS)
    assert answer.text == ANSWERS[ALPHABETS]
    assert not any("\ufffd" in delta.text for delta in answer.deltas)


@pytest.mark.needs("model")
@pytest.mark.parametrize("stop", ["seven,", "even, ei", "t", ", t", "teen, twenty, twenty-o"])
async def test_a_stop_string_ends_the_answer_and_no_part_of_it_leaks(
    client: Client, stop: str
) -> None:
    answer = await client.ask(COUNT, stop=(stop,))
    full = ANSWERS[COUNT]
    assert answer.text == full[: full.index(stop)]
    assert answer.done.finish_reasons == ("stop",)


@pytest.mark.needs("model")
async def test_the_first_of_several_stop_strings_ends_the_answer(client: Client) -> None:
    answer = await client.ask(COUNT, stop=("forty", "twelve", "ten, nine"))
    full = ANSWERS[COUNT]
    assert answer.text == full[: full.index("twelve")]


@pytest.mark.needs("model")
async def test_what_only_looks_like_a_stop_string_is_said(client: Client) -> None:
    full = ANSWERS[COUNT]
    answer = await client.ask(COUNT, stop=("seven, nine", full[-6:] + "!"))
    assert answer.text == full


@pytest.mark.needs("model")
async def test_a_plain_prompt_is_taken_as_it_is(client: Client) -> None:
    rendered = f"<|im_start|>user\n{HELLO}<|im_end|>\n<|im_start|>assistant\n"
    as_prompt = await client.ask(prompt=rendered)
    as_message = await client.ask(HELLO)
    assert as_prompt.text == as_message.text == ANSWERS[HELLO]
    assert as_prompt.done == as_message.done


@pytest.mark.needs("adapters")
async def test_an_adapter_changes_the_answer_of_its_jobs_only(client: Client) -> None:
    before = await client.ask(HELLO, max_tokens=20)
    adapted = await client.ask(HELLO, max_tokens=20, adapter="other")
    after = await client.ask(HELLO, max_tokens=20)
    assert before.text == after.text == ANSWERS[HELLO]
    assert adapted.done.completion_tokens > 0
    assert adapted.text != before.text


@pytest.mark.needs("adapters")
async def test_jobs_with_and_without_an_adapter_run_beside_each_other(client: Client) -> None:
    alone = await client.ask(COUNT, adapter="other", max_tokens=40)
    names = ["other", None] * 8
    answers = [await client.put(COUNT, adapter=name, max_tokens=40) for name in names]
    await asyncio.gather(*(answer.ended() for answer in answers))
    plain = {answer.text for answer, name in zip(answers, names, strict=True) if name is None}
    adapted = {answer.text for answer, name in zip(answers, names, strict=True) if name}
    assert len(plain) == 1 and ANSWERS[COUNT].startswith(plain.pop())
    assert adapted == {alone.text}


@pytest.mark.needs("adapters")
async def test_an_unknown_adapter_is_an_invalid_request(client: Client) -> None:
    answer = await client.ask(HELLO, adapter="nobody")
    assert answer.failed.code == "invalid_request"
    assert "nobody" in answer.failed.message


@pytest.mark.needs("refused adapters")
async def test_an_adapter_that_cannot_be_loaded_ends_nothing_but_its_own_requests(
    client: Client,
) -> None:
    other = await client.put(COUNT, max_tokens=40)
    refused = await client.ask(HELLO, adapter="refused")
    assert refused.failed.code == "engine_failed"
    assert "`refused` cannot be loaded" in refused.failed.message
    await other.ended()
    assert ANSWERS[COUNT].startswith(other.text)


@pytest.mark.needs("tokens")
async def test_the_length_of_the_prompt_is_told_before_the_answer_if_it_is_asked_for(
    client: Client,
) -> None:
    (plain, told) = [
        await client.ask(COUNT, max_tokens=3, counts_prompt=asked) for asked in (False, True)
    ]
    assert plain.prompt == []
    assert [delta.count for delta in told.prompt] == [told.done.prompt_tokens]
    assert told.deltas[0] is told.prompt[0]
    assert told.text == plain.text
