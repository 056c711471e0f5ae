"""Log probabilities that JSON has a word for."""

from __future__ import annotations

from typing import Final

from contract.messages import TokenLogprob

#: For minus infinity, which JSON has no word for; as vLLM's server writes it.
IMPOSSIBLE: Final = -9_999.0


def finite(logprob: float | None) -> float:
    """Return a log probability, or the least there is for one that is no number: tokens that a
    constraint rules out have minus infinity, which some servers write as null."""
    return logprob if logprob is not None and logprob > IMPOSSIBLE else IMPOSSIBLE


def alone(token: str, logprob: float) -> TokenLogprob:
    """Return the log probability of a token that is its own only alternative."""
    return TokenLogprob(token, logprob, ((token, logprob),))
