"""Requests that an engine can never run, since its cache has no room for them.

An engine begins requests one after the other: behind one that does not fit into its empty cache,
all others wait for ever. vLLM 0.26.0 starts with a cache of exactly the blocks of one full context
and keeps one of these for itself (`BlockPool.null_block`); 0.32.0 and 0.33.0 refuse such a start
(`get_kv_cache_configs`).
"""

from __future__ import annotations

from typing import Final

from contract.messages import ErrorCode
from workers.answers.answer import Answer
from workers.engine_state import EngineLoad
from workers.outbox import Outbox

#: While nothing runs, a request that fits is begun in the next step of the engine, unless former
#: ones are still being copied elsewhere (`kv_transfer_config`).
_PATIENCE_S: Final = 10.0


class RoomCheck:
    """Ends the longest job while an engine that runs nothing begins none. If any job does not fit,
    the longest does not."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._last: EngineLoad | None = None
        self._blocked_s = 0.0

    def look(self, passed_s: float) -> None:
        """Look again, after so many seconds. What was not told anew since the last look does not
        count: the engine is at work on a step, which may have begun the job."""
        load, last = self._outbox.load, self._last
        self._last = load
        if not load.has_no_room:
            self._blocked_s = 0.0
        elif load is not last:
            self._blocked_s += passed_s
        if self._blocked_s >= _PATIENCE_S and len(self._outbox):
            self._blocked_s = 0.0
            self._end_longest()

    def _end_longest(self) -> None:
        longest = max(self._outbox.answers(), key=_tokens)
        self._outbox.give_up(
            longest.attempt.job.id,
            ErrorCode.PROMPT_TOO_LONG,
            f"the model's cache has no room for these {_tokens(longest)} tokens, although nothing "
            "else is in it: shorten the prompt, or have the model run with more memory or a "
            "lower `max_model_len`",
        )


def _tokens(answer: Answer) -> int:
    """Return the tokens that the engine keeps of an answer, as far as known."""
    return answer.prompt_tokens + answer.tokens
