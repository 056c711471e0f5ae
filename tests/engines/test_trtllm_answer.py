"""Envelopes from outputs that behave as TensorRT-LLM's do: they grow in place, and shrink when
a stop string is recognised by its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from workers.engines.shared.endings import EndedBadly
from workers.engines.shared.stop_strings import StopStrings
from workers.engines.trtllm.answer import TrtllmChoice

#: As SentencePiece writes them: a word that follows another one has its space in front.
WORDS = {1: " one", 2: " two", 3: " three", 4: "</", 5: "end", 6: ">"}


def decode(token_ids: Sequence[int]) -> str:
    """As Llama's tokenizer: the space before the first word is lost."""
    return "".join(WORDS[token_id] for token_id in token_ids).removeprefix(" ")


@dataclass
class Output:
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: Any = None
    logprobs: list[Any] = field(default_factory=list)

    def grow(self, *token_ids: int) -> Output:
        self.token_ids = [*self.token_ids, *token_ids]
        self.text = decode(self.token_ids)
        return self


def choice(before: Sequence[int] = (), stops: Sequence[str] = ()) -> TrtllmChoice:
    return TrtllmChoice(before, StopStrings(stops), decode)


def test_each_step_sends_what_is_new() -> None:
    ours, output = choice(), Output()
    first, second = ours.advance(output.grow(1)), ours.advance(output.grow(2, 3))
    assert (first.text, list(first.token_ids)) == ("one", [1])
    assert (second.text, list(second.token_ids)) == (" two three", [2, 3])


def test_a_step_that_was_missed_is_made_up_for() -> None:
    ours, output = choice(), Output()
    ours.advance(output.grow(1))
    output.grow(2)
    assert ours.advance(output.grow(3)).text == " two three"


def test_a_continued_answer_keeps_the_space_between_the_words() -> None:
    ours, output = choice(before=[1, 2]), Output()
    assert ours.advance(output.grow(3)).text == " three"
    assert ours.advance(output.grow(1)).text == " one"


def test_the_beginning_of_a_stop_string_is_dropped_when_its_tokens_are_taken_back() -> None:
    ours, output = choice(stops=["</end>"]), Output()
    sent = ours.advance(output.grow(1)).text
    sent += ours.advance(output.grow(4)).text
    sent += ours.advance(output.grow(5)).text
    # The last token completes the stop: three tokens go, the text of two stays.
    output.token_ids = [1]
    output.finish_reason, output.stop_reason = "stop", "</end>"
    sent += ours.advance(output).text
    assert sent == "one"
    assert (ours.reason, ours.stop_string) == ("stop", "</end>")


def test_what_only_began_like_a_stop_string_is_sent_at_the_end() -> None:
    ours, output = choice(stops=["</end>"]), Output()
    sent = ours.advance(output.grow(1, 4)).text
    output.finish_reason = "length"
    sent += ours.advance(output.grow(5)).text
    assert sent == "one</end"
    assert ours.reason == "length"


def test_a_text_that_was_cut_shorter_than_what_was_seen_is_no_trouble() -> None:
    ours, output = choice(stops=["</end>"]), Output()
    sent = ours.advance(output.grow(1, 4)).text
    output.grow(5, 6)
    output.text, output.finish_reason, output.stop_reason = "one", "stop", "</end>"
    sent += ours.advance(output).text
    assert sent == "one"


def test_our_own_look_at_the_text_ends_an_answer_that_the_engine_would_go_on_with() -> None:
    ours, output = choice(stops=["d>"]), Output()
    assert ours.advance(output.grow(1, 4, 5, 6, 2)).text == "one</en"
    assert ours.reason == "stop"


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_every_reason_has_a_name_on_the_wire(reason: str) -> None:
    ours, output = choice(), Output(finish_reason=reason)
    ours.advance(output.grow(1))
    assert ours.reason == reason


def test_log_probabilities_come_with_their_tokens_in_both_forms() -> None:
    chances = {1: SimpleNamespace(logprob=-0.5), 2: SimpleNamespace(logprob=-1.5)}
    ours, output = choice(), Output(logprobs=[chances])
    (first,) = ours.advance(output.grow(1)).logprobs or ()
    assert (first.token, first.logprob) == ("one", -0.5)
    assert first.alternatives == (("one", -0.5), ("two", -1.5))
    output.logprobs = [chances, -2.5]
    (second,) = ours.advance(output.grow(3)).logprobs or ()
    assert (second.token, second.logprob, second.alternatives) == ("three", -2.5, ())


@pytest.mark.parametrize("reason", ["timeout", "cancelled", "not_finished", "new"])
def test_what_is_no_end_of_an_answer_does_not_look_like_one(reason: str) -> None:
    ours, output = choice(), Output()
    output.grow(1).finish_reason = reason
    with pytest.raises(EndedBadly, match=reason):
        ours.advance(output)
