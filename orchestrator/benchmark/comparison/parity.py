"""The difference between two answers to one prompt."""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple

from orchestrator.benchmark.comparison.answer import AnswerPiece, AnswerToken, ReadAnswer


class AnswerPair(NamedTuple):
    """The answers of both models to a prompt."""

    prompt: str
    a: ReadAnswer
    b: ReadAnswer

    @property
    def is_whole(self) -> bool:
        return not self.a.error and not self.b.error

    @property
    def is_same(self) -> bool:
        """Whether both say the same."""
        return self.a.text == self.b.text

    def first_difference(self) -> int | None:
        """Return how many tokens of A both have said before they part; None if they do not.

        It is found in the text, since models may have tokens of their own.
        """
        if self.is_same:
            return None
        common = _common_bytes(self.a.text.encode(), self.b.text.encode())
        before, each = 0.0, _tokens_a_piece(self.a)
        for piece in self.a.pieces:
            length = len(piece.text.encode())
            if length > common:
                return int(before + _tokens_within(piece, common))
            common -= length
            before += len(piece.tokens) or each
        return int(before)

    def logprob_differences(self) -> list[float]:
        """Return by how much the log probabilities of the tokens differ that both have said before
        they part; empty where one of them gives none."""
        pairs = zip(self.a.logprobs, self.b.logprobs, strict=False)
        return [
            abs(a.logprob - b.logprob)
            for a, b in takewhile(lambda pair: _is_same_token(*pair), pairs)
            if a.logprob is not None and b.logprob is not None
        ]


def _common_bytes(a: bytes, b: bytes) -> int:
    """Return how many bytes both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _tokens_a_piece(answer: ReadAnswer) -> float:
    """Return the tokens of a piece that does not tell them."""
    return answer.tokens / len(answer.pieces) if answer.pieces else 1.0


def _tokens_within(piece: AnswerPiece, length: int) -> int:
    """Return how many tokens of a piece end within its first bytes."""
    count = 0
    for token in piece.tokens:
        length -= token.length
        if length < 0:
            break
        count += 1
    return count


def _is_same_token(a: AnswerToken, b: AnswerToken) -> bool:
    return (a.token, a.bytes) == (b.token, b.bytes)
