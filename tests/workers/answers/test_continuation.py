"""Going on with another's answer: what was sent is not sent again, and the rest is not lost."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from contract.asked import Guided
from contract.bus.claims import Attempt
from contract.messages import Delta, Done, Envelope, ErrorCode, Failed, Job, Sampling, Started
from workers.answers.answer import Answer
from workers.answers.continuation import Published, can_continue, read_published, resume_point
from workers.usage.engine_time import EngineTime

JOB = Job(id="a", model="m", sampling=Sampling(), prompt="x")


@dataclass(frozen=True)
class Model:
    """A model with a byte-level vocabulary, sure of what it says: token k is its k-th piece."""

    pieces: tuple[bytes, ...]

    @property
    def whole(self) -> str:
        return b"".join(self.pieces).decode(errors="replace")

    def decode(self, token_ids: Sequence[int]) -> str:
        return b"".join(self.pieces[k] for k in token_ids).decode(errors="replace")

    def say(self, first: int, held_back: int) -> list[tuple[str, list[int]]]:
        """Text and tokens of each step from token `first` on, as engines give them: no part of a
        character, and the last `held_back` characters only when it is sure that no stop string
        begins there."""
        steps = []
        said = len(self.decode(range(first)))
        for k in range(first, len(self.pieces)):
            text = self.decode(range(k + 1))
            is_last = k == len(self.pieces) - 1
            sure = len(text.rstrip("\ufffd")) if not is_last else len(text)
            sure = max(said, sure if is_last else sure - held_back)
            steps.append((text[said:sure], [k]))
            said = sure
        return steps


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Characters of one to four bytes, at times bytes that are none, cut into tokens anywhere."""
    characters = [each.encode() for each in "ab \u00e9\u20ac\U0001f600\ufffd"]
    chosen = st.sampled_from([*characters, *characters, b"\xc3", b"\xff"])
    data = b"".join(draw(st.lists(chosen, min_size=1, max_size=24)))
    cuts = draw(st.sets(st.integers(1, max(1, len(data) - 1))))
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    return Model(tuple(data[a:b] for a, b in itertools.pairwise(bounds)))


def attempt_at(job: Job, number: int) -> Attempt:
    return Attempt(job, "1-1", number, "r", "0")


class Attempts:
    """One job's attempts, one after the other, each cut off after some of its envelopes."""

    def __init__(self, model: Model, held_back: int) -> None:
        self.model = model
        self.held_back = held_back
        self.envelopes: list[Envelope] = []
        self.number = 0

    def run(self, envelopes: int | None) -> None:
        """One attempt; only its first so many envelopes are published, all if None."""
        self.number += 1
        answer = Answer(attempt_at(JOB, self.number), EngineTime())
        published = read_published(self.envelopes, self.number)
        answer.resume(published)
        keep, again = resume_point(self.model.decode, published.tokens, published.text)
        assert published.text == self.model.decode(published.tokens[:keep]) + again
        answer.repeat(again, keep)
        said: list[Delta | Done] = []
        for text, tokens in self.model.say(keep, self.held_back):
            delta = answer.say(text, tokens, 0, None)
            said += [delta] if delta is not None else []
        assert not answer.owes_known_text
        assert answer.tokens == len(self.model.pieces)
        said.append(Done(("stop",), 1, answer.tokens))
        numbered = [
            Envelope("a", self.number, published.next_seq + n, event)
            for n, event in enumerate(said)
        ]
        self.envelopes.append(Envelope("a", self.number, 0, Started()))
        self.envelopes += numbered if envelopes is None else numbered[:envelopes]


@given(models(), st.integers(0, 3), st.lists(st.integers(0, 12), max_size=4))
@example(Model((b"ab", b"\xc3", b"\xa9", b"c")), 1, [1, 1])
@example(Model((b"ab cd", b"e", b"f")), 2, [1, 0, 1])
def test_an_answer_lost_any_number_of_times_at_any_place_comes_out_whole(
    model: Model, held_back: int, cuts: list[int]
) -> None:
    attempts = Attempts(model, held_back)
    for cut in cuts:
        attempts.run(cut)
        if read_published(attempts.envelopes, attempts.number + 1).end:
            break
    else:
        attempts.run(None)
    result = read_published(attempts.envelopes, attempts.number + 1)
    assert result.end
    assert result.text == model.whole
    assert result.tokens == tuple(range(len(result.tokens)))


@given(models(), st.data())
def test_only_tokens_whose_text_the_client_has_are_kept(model: Model, data: st.DataObject) -> None:
    emitted = range(data.draw(st.integers(0, len(model.pieces))))
    have = model.decode(emitted).rstrip("\ufffd")
    sent = have[: data.draw(st.integers(0, len(have)))]
    keep, suppress = resume_point(model.decode, emitted, sent)
    assert model.decode(range(keep)) + suppress == sent
    texts = [model.decode(range(k)) for k in range(len(emitted) + 1)]
    assert keep == max(
        k for k, text in enumerate(texts) if sent.startswith(text) and not text.endswith("\ufffd")
    )


def test_half_a_character_is_never_taken_for_one_that_the_model_said() -> None:
    model = Model((b"a", b"\xc3", b"x"))
    assert resume_point(model.decode, range(3), "a\ufffd") == (1, "\ufffd")


def test_a_restart_from_nothing_is_what_remains_where_no_tokens_fit() -> None:
    assert resume_point(lambda ids: "?" * len(ids), [1, 2], "abc") == (0, "abc")
    assert resume_point(lambda ids: "?" * len(ids), [], "") == (0, "")


@pytest.mark.parametrize(
    ("pieces", "sent", "point"),
    [
        ("_Hello _wor ld", " Hello world", (3, "")),
        ("_Hello _wor ld", " Hello w", (1, " w")),
        ("_Hello _wor ld", " Hel", (0, " Hel")),
        ("_Hello _wor ld", "Hello world", (3, "")),
        ("Hello _wor ld", "Hello wor", (2, "")),
        ("_ Hello", " Hello", (2, "")),
        ("_ Hello", " ", (1, "")),
    ],
)
def test_a_space_that_the_tokenizer_drops_at_the_beginning_was_sent_all_the_same(
    pieces: str, sent: str, point: tuple[int, str]
) -> None:
    vocabulary = pieces.split()

    def decode(ids: Sequence[int]) -> str:
        return "".join(vocabulary[k] for k in ids).replace("_", " ").removeprefix(" ")

    assert resume_point(decode, range(len(vocabulary)), sent) == point


def test_the_search_for_a_place_to_go_on_is_bounded() -> None:
    decoded = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal decoded
        decoded += 1
        return "no"

    assert resume_point(decode, range(10_000), "yes") == (0, "yes")
    assert decoded <= 65


def envelope(attempt: int, seq: int, text: str) -> Envelope:
    tokens = array("I", map(ord, text)).tobytes()
    return Envelope("a", attempt, seq, Delta(text, tokens))


def started(attempt: int) -> Envelope:
    return Envelope("a", attempt, 0, Started())


DONE = Done(("stop",), 1, 1)


@pytest.mark.parametrize(
    ("envelopes", "text", "next_seq", "end"),
    [
        ([], "", 0, None),
        ([started(1)], "", 0, None),
        ([started(1), envelope(1, 0, "a"), envelope(1, 1, "b")], "ab", 2, None),
        (
            [started(1), envelope(1, 0, "a"), envelope(1, 0, "a"), envelope(1, 1, "b")],
            "ab",
            2,
            None,
        ),
        ([started(1), envelope(1, 0, "a"), started(2), envelope(1, 1, "x")], "a", 1, None),
        ([started(1), envelope(1, 0, "a"), started(2), envelope(2, 1, "b")], "ab", 2, None),
        ([started(2), started(1), envelope(1, 0, "x"), envelope(2, 0, "b")], "b", 1, None),
        ([started(1), envelope(1, 0, "a"), started(3), envelope(3, 1, "x")], "a", 1, None),
        ([started(1), envelope(1, 0, "a"), Envelope("a", 1, 1, DONE)], "a", 2, DONE),
        ([started(1), Envelope("a", 1, 0, DONE), envelope(1, 1, "x")], "", 1, DONE),
        ([started(1), envelope(1, 0, "a"), started(2), Envelope("a", 1, 1, DONE)], "a", 1, None),
    ],
)
def test_what_was_published_is_read_as_a_gateway_reads_it(
    envelopes: list[Envelope], text: str, next_seq: int, end: Done | None
) -> None:
    published = read_published(envelopes, fence=3)
    assert published == Published(text, tuple(map(ord, text)), next_seq, end)


def test_a_failure_is_an_end_too() -> None:
    failed = Envelope("a", 1, 0, Failed(ErrorCode.ENGINE_FAILED, "x"))
    assert read_published([started(1), failed], 2).end is failed.event


@pytest.mark.parametrize(
    ("sampling", "can"),
    [
        (Sampling(), True),
        (Sampling(temperature=1.0, seed=1, stop=("x",)), True),
        (Sampling(guided=Guided("json_object")), False),
        (Sampling(n=2), False),
        (Sampling(logprobs=0), False),
    ],
)
def test_answers_that_cannot_be_told_apart_afterwards_are_not_continued(
    sampling: Sampling, can: bool
) -> None:
    assert can_continue(Job("a", "m", sampling)) == can


def test_an_answer_whose_beginning_is_gone_is_torn() -> None:
    whole = [
        Envelope("a", 1, 0, Started()),
        *(Envelope("a", 1, seq, Delta(f"{seq}", b"")) for seq in range(4)),
    ]
    assert read_published(whole, 2).text == "0123"
    for lost in range(1, 5):
        assert read_published(whole[lost:], 2) == Published(is_torn=True)
    assert read_published([whole[0], whole[1], *whole[3:]], 2).is_torn
    assert not read_published([*whole, *whole], 2).is_torn
