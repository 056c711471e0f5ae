"""Embeddings, as they are asked of a server of the OpenAI API and come back from it."""

from __future__ import annotations

import sys
from array import array
from typing import Any

import msgspec

from contract.asked import Embedding
from workers.engines.openai.errors import UpstreamFailed


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage = msgspec.field(default_factory=_Usage)


def embeddings_asked(asked: Embedding) -> dict[str, Any]:
    body: dict[str, Any] = {"input": asked.inputs, "encoding_format": "float"}
    return body if asked.dimensions is None else body | {"dimensions": asked.dimensions}


def read_vectors(body: bytes, inputs: int) -> tuple[list[bytes], int]:
    """Return the vectors in the order of their inputs, as in `VectorDelta`, and the tokens that
    were read. Raises `UpstreamFailed`."""
    try:
        read = msgspec.json.decode(body, type=_Vectors)
    except (ValueError, RecursionError) as error:
        raise _unreadable(f"{type(error).__name__}") from error
    if sorted(each.index for each in read.data) != list(range(inputs)):
        raise _unreadable(f"{len(read.data)} vectors for {inputs} inputs")
    ordered = sorted(read.data, key=lambda each: each.index)
    return [_packed(each.embedding) for each in ordered], read.usage.prompt_tokens


def _packed(numbers: list[float]) -> bytes:
    packed = array("f", numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _unreadable(note: str) -> UpstreamFailed:
    message = "the server behind this model sent no embeddings that can be read"
    return UpstreamFailed(message, note=note)
