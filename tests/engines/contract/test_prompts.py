"""Reports on prompts: the tokens, their text, and how probable they were."""

from __future__ import annotations

import pytest

from contract.asked import PromptReport
from contract.messages import ErrorCode
from tests.engines.contract.harness import Client

TEXT = "What is ew? It is a gateway."
ONLY = PromptReport(only=True)


@pytest.mark.needs("tokenizer")
async def test_tokens_and_their_text(client: Client) -> None:
    read = await client.ask(prompt=TEXT, report=PromptReport(names=True, only=True))
    names = [name for delta in read.prompt for name in delta.names]
    assert len(read.prompt_ids) == len(names) == read.done.prompt_tokens > 1
    assert (read.text, read.done.completion_tokens) == ("", 0)
    written = await client.ask(prompt_ids=tuple(read.prompt_ids), report=ONLY)
    assert written.prompt[0].prompt_text == TEXT
    assert written.prompt_ids == read.prompt_ids


@pytest.mark.needs("tokenizer")
async def test_a_chat_is_read_by_its_template(client: Client) -> None:
    chat = await client.ask(TEXT, report=ONLY)
    plain = await client.ask(prompt=TEXT, report=ONLY)
    assert len(chat.prompt_ids) > len(plain.prompt_ids)
    assert chat.done.prompt_tokens == len(chat.prompt_ids)


@pytest.mark.needs("tokenizer")
async def test_what_is_only_read_may_be_empty_or_longer_than_the_model_takes(
    client: Client,
) -> None:
    long = await client.ask(prompt="word " * 2 * client.max_model_len, report=ONLY)
    assert len(long.prompt_ids) > client.max_model_len
    empty = await client.ask(prompt_ids=(), report=ONLY)
    assert (empty.prompt_ids, empty.prompt[0].prompt_text) == ([], "")


@pytest.mark.needs("prompts")
async def test_the_prompt_is_told_before_its_answer(client: Client) -> None:
    told = await client.ask(prompt=TEXT, max_tokens=4, report=PromptReport(logprobs=1))
    plain = await client.ask(prompt=TEXT, max_tokens=4)
    assert told.text == plain.text
    assert told.deltas[0] is told.prompt[0]
    assert len(told.places) == len(told.prompt_ids) == told.done.prompt_tokens
    assert [place[0].id for place in told.places] == told.prompt_ids
    first, *others = told.places
    assert (first[0].logprob, first[0].rank) == (None, None)
    for place in others:
        chances = [token.logprob for token in place if token.logprob is not None]
        assert len(chances) == len(place)
        assert max(chances) <= 0
        assert [token.logprob for token in place if token.rank == 1] == [max(chances)]
    assert "".join(place[0].text for place in told.places) == TEXT


@pytest.mark.needs("prompts")
async def test_tokens_by_their_ids_in_log_probabilities(client: Client) -> None:
    answer = await client.ask(TEXT, max_tokens=3, logprobs=1, names_tokens_by_id=True)
    assert [each.token for each in answer.logprobs] == [f"token_id:{i}" for i in answer.token_ids]
    assert all(name.startswith("token_id:") for name, _ in answer.logprobs[0].alternatives)


@pytest.mark.needs("tokenizer")
async def test_a_model_that_is_not_made_for_it_fills_no_gap(client: Client) -> None:
    answer = await client.ask(prompt=TEXT, suffix=" The end.")
    assert answer.failed.code is ErrorCode.INVALID_REQUEST
    assert "suffix" in answer.failed.message
