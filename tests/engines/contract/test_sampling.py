"""Sampling: several choices, seeds, log probabilities, and constrained output."""

from __future__ import annotations

import json
import re

import pytest

from contract.asked import Guided
from tests.engines.contract.harness import Client
from tests.engines.contract.questions import ANSWERS, COUNT, HELLO

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["ew", "we"]}, "good": {"type": "boolean"}},
    "required": ["name", "good"],
    "additionalProperties": False,
}


@pytest.mark.needs("n")
async def test_several_choices_are_told_apart(client: Client) -> None:
    answer = await client.ask(COUNT, n=2, temperature=1.5, seed=11, max_tokens=20)
    assert {delta.index for delta in answer.deltas} == {0, 1}
    assert len(answer.done.finish_reasons) == 2
    assert answer.done.completion_tokens > 20
    assert all(answer.choice(index) for index in (0, 1))


@pytest.mark.needs("seed")
async def test_a_seed_makes_chance_repeatable(client: Client) -> None:
    # Without a bound of its own the server of llama.cpp leaves out what is unlikely.
    how = {"prompt": "x", "temperature": 2.0, "min_p": 0.0, "top_k": 0, "max_tokens": 16}
    first = await client.ask(seed=1, **how)
    again = await client.ask(seed=1, **how)
    other = await client.ask(seed=2, **how)
    assert first.text == again.text
    assert first.text != other.text


@pytest.mark.needs("logprobs")
@pytest.mark.parametrize("plainly", [False, True])
async def test_log_probabilities_come_with_every_token(client: Client, plainly: bool) -> None:
    prompt = f"<|im_start|>user\n{HELLO}<|im_end|>\n<|im_start|>assistant\n"
    answer = await client.ask(HELLO, prompt=prompt if plainly else None, logprobs=2, max_tokens=6)
    assert len(answer.logprobs) == answer.done.completion_tokens == 6
    assert "".join(each.token for each in answer.logprobs) == answer.text
    for each in answer.logprobs:
        assert each.logprob <= 0
        assert len(each.alternatives) in (2, 3)
        assert max(each.alternatives, key=lambda other: other[1])[0] == each.token


@pytest.mark.needs("logprobs")
async def test_log_probabilities_do_not_change_the_answer(client: Client) -> None:
    answer = await client.ask(HELLO, logprobs=0)
    assert answer.text == ANSWERS[HELLO]
    assert len(answer.logprobs) >= answer.done.completion_tokens - 1
    assert all((each.token, each.logprob) in each.alternatives for each in answer.logprobs)


@pytest.mark.needs("json")
@pytest.mark.parametrize("plainly", [False, True])
async def test_a_value_of_a_json_schema_is_obeyed(client: Client, plainly: bool) -> None:
    guided = Guided("json", json.dumps({"enum": ["ew", "we"]}))
    prompt = f"<|im_start|>user\n{HELLO}<|im_end|>\n<|im_start|>assistant\n"
    answer = await client.ask(
        HELLO, prompt=prompt if plainly else None, guided=guided, max_tokens=200
    )
    assert json.loads(answer.text) in ("ew", "we")


@pytest.mark.needs("json", "compact json")
async def test_a_json_schema_is_obeyed(client: Client) -> None:
    guided = Guided("json", json.dumps(SCHEMA))
    answer = await client.ask(HELLO, guided=guided, max_tokens=200)
    data = json.loads(answer.text)
    assert set(data) == {"name", "good"}
    assert data["name"] in ("ew", "we")
    assert isinstance(data["good"], bool)


MIXED = {
    "type": "object",
    "properties": {"a": {"enum": [1]}, "b": {"enum": [2]}, "c": {"enum": [3]}},
    "required": ["a"],
    "anyOf": [{"required": ["b"]}, {"required": ["c"]}],
}
MIXED_ANSWERS = ({"a": 1, "b": 2}, {"a": 1, "c": 3}, {"a": 1, "b": 2, "c": 3})


@pytest.mark.needs("json", "compact json")
async def test_properties_beside_branches_are_obeyed(client: Client) -> None:
    """xgrammar reads the branches alone, if they are not folded."""
    answer = await client.ask(HELLO, guided=Guided("json", json.dumps(MIXED)), max_tokens=200)
    assert json.loads(answer.text) in MIXED_ANSWERS


@pytest.mark.needs("regex")
async def test_a_regex_is_obeyed(client: Client) -> None:
    pattern = r"[0-9]{3}-[a-f]{2}"
    answer = await client.ask(HELLO, guided=Guided("regex", pattern), max_tokens=40)
    assert re.fullmatch(pattern, answer.text)


@pytest.mark.needs("choice")
async def test_one_of_the_choices_is_made(client: Client) -> None:
    choices = ["Grüße", "maybe so", 'a "no"']
    guided = Guided("choice", json.dumps(choices))
    answer = await client.ask(HELLO, guided=guided, max_tokens=40)
    assert answer.text in choices


@pytest.mark.needs("grammar")
async def test_a_grammar_is_obeyed(client: Client) -> None:
    guided = Guided("grammar", 'root ::= "1" | "2" "3"')
    answer = await client.ask(HELLO, guided=guided, max_tokens=40)
    assert answer.text in ("1", "23")


@pytest.mark.needs("structural tags")
async def test_a_structural_tag_is_obeyed(client: Client) -> None:
    number = {"type": "regex", "pattern": "[0-9]{2}"}
    tag = {"type": "tag", "begin": "<n>", "content": number, "end": "</n>"}
    guided = Guided("structural_tag", json.dumps({"type": "structural_tag", "format": tag}))
    answer = await client.ask(HELLO, guided=guided, max_tokens=40)
    assert re.fullmatch("<n>[0-9]{2}</n>", answer.text)


@pytest.mark.needs("structural tags")
async def test_properties_beside_branches_are_obeyed_in_a_structural_tag(client: Client) -> None:
    content = {"type": "json_schema", "json_schema": MIXED, "max_whitespace_cnt": 1}
    tag = {"type": "tag", "begin": "<n>", "content": content, "end": "</n>"}
    guided = Guided("structural_tag", json.dumps({"type": "structural_tag", "format": tag}))
    answer = await client.ask(HELLO, guided=guided, max_tokens=200)
    assert json.loads(answer.text.removeprefix("<n>").removesuffix("</n>")) in MIXED_ANSWERS


@pytest.mark.needs("structural tags")
async def test_a_structural_tag_that_cannot_be_read_is_an_invalid_request(client: Client) -> None:
    guided = Guided("structural_tag", '{"type": "structural_tag", "format": {"type": "odd"}}')
    answer = await client.ask(HELLO, guided=guided, max_tokens=10)
    assert answer.failed.code == "invalid_request"


@pytest.mark.needs("regex")
async def test_a_constraint_that_cannot_be_read_is_an_invalid_request(client: Client) -> None:
    answer = await client.ask(HELLO, guided=Guided("regex", "[a"), max_tokens=10)
    assert answer.failed.code == "invalid_request"
    assert (await client.ask(HELLO, max_tokens=3)).done.completion_tokens == 3
