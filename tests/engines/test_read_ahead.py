"""Prompts that are encoded together."""

from __future__ import annotations

from typing import Any

from contract.messages import ChatMessage, Job, Sampling
from workers.engines.shared.encoding import ReadAhead


class Tokenizer:
    def __init__(self) -> None:
        self.asked: list[tuple[list[str], bool]] = []

    def encode_all(self, texts: list[str], special: bool) -> list[list[int]]:
        self.asked.append((texts, special))
        if "broken" in texts:
            raise UnicodeEncodeError("utf-8", "", 0, 1, "no text")
        return [[special, *map(ord, text)] for text in texts]


def job(prompt: str | None = None, **asked: Any) -> Job:
    return Job("j", "m", Sampling(), prompt=prompt, **asked)


def test_only_plain_prompts_are_encoded_together_and_the_last_group_is_kept() -> None:
    tokenizer = Tokenizer()
    ahead = ReadAhead(tokenizer.encode_all)
    chat = job(messages=(ChatMessage("user", "hi"),))
    others = [chat, job(prompt_ids=(1, 2)), job("gap", suffix="!"), job("x" * 2_001)]
    bare = [job(text, add_special_tokens=False) for text in "ab"]
    ahead.read([job("b"), job("a", add_special_tokens=True), job("a"), *others, *bare])
    assert tokenizer.asked == [(["a", "b"], True), (["a", "b"], False)]
    assert ahead.take("a", True) == [1, ord("a")]
    assert ahead.take("a", False) == [0, ord("a")]
    assert ahead.take("gap", True) is None
    ahead.read([job("c")])
    assert ahead.take("a", True) is None
    assert len(tokenizer.asked) == 2


def test_ids_belong_to_one_job_and_one_that_cannot_be_encoded_harms_none() -> None:
    ahead = ReadAhead(Tokenizer().encode_all)
    ahead.read([job("a"), job("b")])
    ids = ahead.take("a", True)
    assert ids is not None
    ids.append(7)
    assert ahead.take("a", True) == [1, ord("a")]
    ahead.read([job("a"), job("broken")])
    assert ahead.take("a", True) is None
