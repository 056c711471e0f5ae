"""Embeddings by SGLang's adapter, without SGLang: its inputs, and what it makes of outputs."""

from __future__ import annotations

import ast
from array import array
from typing import Any

import pytest

from contract.asked import Pooling
from contract.messages import Delta, ErrorCode, Job, Sampling, VectorDelta
from contract.paths import ROOT
from tests.engines.test_sglang_signatures import RECORDED
from workers.engine import JobRejected
from workers.engines.prompts import Prompts
from workers.engines.sglang.pooling import SglangEmbeddings, inputs_of


class Tokenizer:
    """A token for each letter."""

    def encode(self, text: str, **_: Any) -> list[int]:
        return [ord(letter) for letter in text]


class Outbox:
    def __init__(self) -> None:
        self.said: list[Any] = []

    def say_first(self, job_id: str, deltas: list[Delta]) -> None:
        self.said += [list(array("f", each.vector)) for each in deltas if is_vector(each)]

    def done(self, job_id: str, reasons: tuple[str, ...], prompt_tokens: int) -> None:
        self.said.append((reasons, prompt_tokens))


def is_vector(delta: Delta) -> Any:
    return isinstance(delta, VectorDelta)


def job(asked: Pooling, **more: Any) -> Job:
    return Job("j", "m", Sampling(), pooling=asked, **more)


def taken(asked: Pooling, *vectors: list[float]) -> list[Any]:
    """Let the last input be answered first."""
    outbox: Any = Outbox()
    answer = SglangEmbeddings(outbox, job(asked), asked, len(vectors))
    for number in reversed(range(len(vectors))):
        assert not outbox.said
        assert not answer.is_complete
        answer.take(number, {"embedding": vectors[number], "meta_info": {"prompt_tokens": 2}})
    assert answer.is_complete
    return list(outbox.said)


async def test_texts_and_tokens_are_inputs_each_of_its_own() -> None:
    prompts = Prompts(Tokenizer(), 8, 9)
    asked = Pooling(("ab", (7, 8)))
    assert await inputs_of(job(asked), asked, prompts) == [[97, 98], [7, 8]]
    long = Pooling(("abcdefghij",))
    with pytest.raises(JobRejected) as refused:
        await inputs_of(job(long), long, prompts)
    assert refused.value.code is ErrorCode.PROMPT_TOO_LONG
    for keeps, expected in (("first", "ab"), ("last", "ij")):
        cut = Pooling(("abcdefghij",), keeps=keeps)  # type: ignore[arg-type]
        (ids,) = await inputs_of(job(cut, truncate_prompt_tokens=2), cut, prompts)
        assert "".join(map(chr, ids)) == expected


@pytest.mark.parametrize(
    ("named", "asked"),
    [
        ("`classify`", {"task": "classify"}),
        ("`input_type`", {"input_type": "query"}),
        ("`query_tokens`", {"task": "score", "query_tokens": 5}),
    ],
)
async def test_what_it_cannot_do_is_refused_by_name(named: str, asked: dict[str, Any]) -> None:
    pooling = Pooling(("a", "b"), **asked)
    with pytest.raises(JobRejected, match=named):
        await inputs_of(job(pooling), pooling, Prompts(Tokenizer(), 8, 9))


def test_vectors_come_in_the_order_of_the_inputs_when_all_are_there() -> None:
    said = taken(Pooling(("a", "b")), [1.0, 2.0], [3.0, 4.0])
    assert said == [[1.0, 2.0], [3.0, 4.0], (("stop",), 4)]


def test_scores_are_cosines_of_the_vectors() -> None:
    asked = Pooling(("q", "a", "b"), task="score", queries=1)
    assert taken(asked, [1.0, 0.0], [2.0, 0.0], [0.0, 3.0]) == [[1.0], [0.0], (("stop",), 6)]


def test_an_input_is_asked_for_by_fields_that_the_release_has() -> None:
    source = ast.parse((ROOT / "workers" / "engines" / "sglang" / "pooling.py").read_text())
    (call,) = (
        node
        for node in ast.walk(source)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "EmbeddingReqInput"
    )
    assert {keyword.arg for keyword in call.keywords} <= set(RECORDED["EmbeddingReqInput"])
    assert RECORDED["TokenizerManager.generate_request"] == ["obj", "request"]
    assert "is_embedding" in RECORDED["ServerArgs"]
