"""The answers of a batch together: their model, and the tokens that they took."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from gateway.batches.batch import BatchUsage


class _Details(msgspec.Struct):
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class _Usage(msgspec.Struct):
    """Tokens, as each of the endpoints names them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    usage: _Usage | None = None


class _Response(msgspec.Struct):
    body: _Body


class _Answered(msgspec.Struct):
    response: _Response


_decode: Final = msgspec.json.Decoder(_Answered).decode
_NO_DETAILS: Final = _Details()


def answers_of(path: Path) -> tuple[str | None, BatchUsage]:
    """Return the model of the answers in an output file, if it is one, and what they took in all.
    Raises `OSError`."""
    models: set[str | None] = set()
    total = [0, 0, 0, 0]
    with path.open("rb") as lines:
        for line in lines:
            body = _decode(line).response.body
            models.add(body.model)
            total = [sum(each) for each in zip(total, _tokens(body.usage or _Usage()), strict=True)]
    return models.pop() if len(models) == 1 else None, BatchUsage(*total)


def _tokens(usage: _Usage) -> tuple[int, int, int, int]:
    read = usage.prompt_tokens_details or usage.input_tokens_details or _NO_DETAILS
    said = usage.completion_tokens_details or usage.output_tokens_details or _NO_DETAILS
    return (
        usage.prompt_tokens + usage.input_tokens,
        read.cached_tokens,
        usage.completion_tokens + usage.output_tokens,
        said.reasoning_tokens,
    )
