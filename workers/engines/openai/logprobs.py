"""The log probabilities of tokens, in the forms that chats and completions give them."""

from __future__ import annotations

import msgspec

from contract.messages import TokenLogprob
from workers.engines.openai.halves import whole_characters
from workers.engines.shared.chances import finite


class _Alternative(msgspec.Struct):
    token: str
    logprob: float | None


class _Token(msgspec.Struct):
    token: str
    logprob: float | None
    top_logprobs: list[_Alternative] | None = None

    def read(self) -> TokenLogprob:
        others = self.top_logprobs or []
        return TokenLogprob(
            whole_characters(self.token),
            finite(self.logprob),
            tuple((whole_characters(other.token), finite(other.logprob)) for other in others),
        )


class UpstreamLogprobs(msgspec.Struct):
    """The log probabilities of new tokens: `content` in chats, the other three in completions."""

    content: list[_Token] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float | None] | None] | None = None

    def read(self) -> tuple[TokenLogprob, ...]:
        if self.content is not None:
            return tuple(token.read() for token in self.content)
        tokens = self.tokens or []
        others = self.top_logprobs or [None] * len(tokens)
        return tuple(
            _Token(token, logprob, [_Alternative(*each) for each in (beside or {}).items()]).read()
            for token, logprob, beside in zip(
                tokens, self.token_logprobs or [], others, strict=False
            )
        )
