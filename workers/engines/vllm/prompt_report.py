"""The report on a prompt that comes with vLLM's first output."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from contract.messages import PromptToken
from workers.engines.shared.chances import finite
from workers.engines.shared.deltas import prompt_deltas
from workers.outbox import Outbox


class PromptTeller:
    """Tells of the prompt before the first output of an answer is taken."""

    def __init__(
        self,
        outbox: Outbox,
        job_id: str,
        prompt_ids: list[int],
        text: str,
        name_of: Callable[[int], str],
        take: Callable[[Any], None],
    ) -> None:
        self._outbox = outbox
        self._job_id = job_id
        self._prompt_ids = prompt_ids
        self._text = text
        self._name_of = name_of
        self._take = take
        self._has_told = False

    def take(self, output: Any) -> None:
        """Pass an output of vLLM's on, after what it says of the prompt."""
        if not self._has_told:
            self._has_told = True
            chances = output.prompt_logprobs or []
            # An answer that is continued has its beginning as a part of the prompt.
            places = [*map(self._place, self._prompt_ids, chances)]
            deltas = prompt_deltas(self._prompt_ids, self._text, places=places)
            self._outbox.say_first(self._job_id, deltas)
        self._take(output)

    def _place(self, token_id: int, chances: Any) -> tuple[PromptToken, ...]:
        if chances is None:
            return (PromptToken(token_id, self._name_of(token_id)),)
        return tuple(self._tokens(chances.items()))

    def _tokens(self, chances: Iterable[tuple[int, Any]]) -> Iterable[PromptToken]:
        for token_id, chance in chances:
            logprob = finite(chance.logprob)
            yield PromptToken(token_id, chance.decoded_token or "", logprob, chance.rank)
