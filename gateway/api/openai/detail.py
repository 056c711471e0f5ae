"""The details of vLLM's extra fields beside the text of an answer: the prompt, as it was read, and
the tokens.

Answers that tell none of it are written without a look at this module.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from contract.asked import PromptReport
from contract.messages import Delta, PromptDelta, PromptToken


class Detail(NamedTuple):
    """The details that were asked for. `echo` puts the prompt before the answer, and without
    `generated` there is nothing else; `usage` comes with every chunk of a stream."""

    echo: bool = False
    generated: bool = True
    prompt_logprobs: bool = False
    token_ids: bool = False
    usage: bool = False
    #: Tokens of log probabilities are called `token_id:N`.
    by_id: bool = False
    #: A chat's answer begins with what the last message said.
    last_message: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether an answer's text, and its log probabilities, are all that is told."""
        return self in _PLAIN

    def report(self, logprobs: int | None) -> PromptReport | None:
        """Return the report on the prompt that the worker must give, with so many `logprobs` of
        each token if not None."""
        needed = self.echo or self.prompt_logprobs or self.token_ids or self.usage
        return PromptReport(logprobs) if needed else None


_PLAIN: Final = (Detail(), Detail(by_id=True))


class PromptSoFar:
    """The report on a prompt as far as it has come."""

    def __init__(self) -> None:
        self.text = ""
        self.ids: list[int] = []
        self.names: list[str] = []
        self.places: list[tuple[PromptToken, ...]] = []

    def add(self, delta: PromptDelta) -> None:
        self.text += delta.prompt_text
        self.ids += ids_of(delta.prompt)
        self.names += delta.names
        self.places += delta.places

    def logprobs(self) -> list[dict[str, Any] | None] | None:
        """As vLLM has it: by token id for each place, of which the first has none."""
        return [_place(place) for place in self.places] or None


def ids_of(packed: bytes) -> list[int]:
    """Token ids, 4 bytes each."""
    return array("I", packed).tolist()


class TokensSoFar:
    """The ids of the tokens of one choice."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []

    @property
    def ids(self) -> list[int]:
        return ids_of(b"".join(self._packed))

    def add(self, delta: Delta) -> None:
        self._packed.append(delta.tokens)


def _place(place: Sequence[PromptToken]) -> dict[str, Any] | None:
    if place[0].logprob is None:
        return None
    return {
        str(token.id): {
            "logprob": token.logprob,
            "rank": token.rank,
            "decoded_token": token.text,
        }
        for token in place
    }
