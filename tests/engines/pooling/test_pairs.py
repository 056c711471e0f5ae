"""Pairs of texts by the operator's template, and how they are cut, with a tokenizer of letters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from contract.asked import Pooling, Template
from contract.config import ModelConfig
from contract.messages import ErrorCode, Job, Sampling
from workers.engine import CannotServe, JobRejected
from workers.engines.vllm.pooling.prompts import PoolingPrompts, score_template


class Letters:
    """A token for each letter; a template is a format string of both texts and its arguments."""

    truncation_side = "right"

    def __call__(self, text: str, **how: Any) -> dict[str, Any]:
        ids = [ord(letter) for letter in text]
        most = how.get("max_length")
        return {
            "input_ids": ids[:most] if how.get("truncation") else ids,
            "offset_mapping": [(place, place + 1) for place in range(len(text))],
        }

    def apply_chat_template(
        self, turns: list[dict[str, str]], *, chat_template: str, tokenize: bool, **given: str
    ) -> str:
        assert not tokenize
        return chat_template.format(*(turn["content"] for turn in turns), **given)


def prompts(template: str) -> PoolingPrompts:
    model: Any = SimpleNamespace(encoder_config=None, hf_config=SimpleNamespace())
    chats: Any = None
    return PoolingPrompts(Letters(), model, chats, 12, template)


def job(pooling: Pooling, **more: Any) -> Job:
    return Job("j", "m", Sampling(), pooling=pooling, **more)


async def texts(asked: Pooling, score: str, **more: Any) -> list[str]:
    made = await prompts(score).of_pairs(job(asked, **more), asked)
    return ["".join(map(chr, each.ids)) for each in made]


async def test_a_template_writes_each_pair_with_what_the_request_gives_it() -> None:
    asked = Pooling(("q", "one", "two"), task="score", queries=1)
    given = Template('{"instruction": "go"}')
    assert await texts(asked, "{instruction}<{0}|{1}>", template=given) == [
        "go<q|one>",
        "go<q|two>",
    ]
    side_by_side = Pooling(("q", "r", "one", "two"), task="score", queries=2)
    assert await texts(side_by_side, "{0}{1}") == ["qone", "rtwo"]


async def test_texts_are_cut_before_and_pairs_after_they_are_written() -> None:
    each = Pooling(("long", "longer"), task="score", queries=1, query_tokens=2, document_tokens=3)
    assert await texts(each, "{0}|{1}") == ["lo|lon"]
    pair = Pooling(("long", "longer"), task="score", queries=1)
    assert await texts(pair, "{0}|{1}", truncate_prompt_tokens=6) == ["long|l"]
    last = Pooling(("long", "longer"), task="score", queries=1, keeps="last")
    assert await texts(last, "{0}|{1}", truncate_prompt_tokens=3) == ["ger"]
    with pytest.raises(JobRejected) as refused:
        await texts(pair, "{0}, and then {1}")
    assert refused.value.code is ErrorCode.PROMPT_TOO_LONG


async def test_a_template_that_cannot_be_used_is_named() -> None:
    with pytest.raises(JobRejected, match="score_template"):
        await texts(Pooling(("q", "d"), task="score", queries=1), "{missing}")
    model = ModelConfig(engine="cpu-vllm", model_path="m", score_template="/no/such.jinja")
    with pytest.raises(CannotServe, match="no/such"):
        score_template(model)
