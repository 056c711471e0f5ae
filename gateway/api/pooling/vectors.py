"""The vectors of inputs, one each or one for each token, as JSON."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import orjson

from contract.messages import Delta, VectorDelta
from gateway.api import fields
from gateway.streams.dialects import AnswerChoice

#: vLLM's `embed_dtype`: numbers of other sizes are not made.
Bytes32: Final = fields.only("float32")
#: vLLM's `endianness`: the bytes of a number begin with the least one, as on all hosts of ew.
LittleEndian = Literal["native", "little"]


def numbers_of(packed: bytes) -> array[float]:
    """Return the numbers of a `VectorDelta`."""
    numbers = array("f", packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def json_of_floats(packed: bytes) -> bytes:
    return orjson.dumps(numbers_of(packed).tolist())


def json_of_base64(packed: bytes) -> bytes:
    return orjson.dumps(base64.b64encode(packed).decode())


def bits_of(packed: bytes, *, signed: bool) -> bytes:
    """Return whether each number is not negative, 8 of them in a byte, the first as the highest
    bit; `signed` bytes are less by 128. What is missing in the last byte is 0."""
    numbers = numbers_of(packed)
    less = 128 if signed else 0
    eights = (numbers[at : at + 8] for at in range(0, len(numbers), 8))
    return orjson.dumps([_byte(eight) - less for eight in eights])


def _byte(numbers: array[float]) -> int:
    return sum((number >= 0) << (7 - place) for place, number in enumerate(numbers))


class VectorSink(AnswerChoice):
    """The vectors that have come, each written in several ways as it comes. One that comes again
    is the same."""

    def __init__(self, writers: tuple[Callable[[bytes], bytes], ...]) -> None:
        super().__init__()
        self._writers = writers
        self.written: dict[int, list[bytes]] = {}

    def add(self, delta: Delta) -> None:
        if isinstance(delta, VectorDelta):
            self.written[delta.number] = [write(delta.vector) for write in self._writers]


class WrittenInput(NamedTuple):
    """The numbers of one input in JSON, how many there are (of a token), and its class."""

    json: bytes
    size: int
    label: str


class VectorsSoFar(AnswerChoice):
    """The vectors that have come, in JSON or, `as_base64`, as their bytes. One that comes again is
    the same."""

    def __init__(self, *, as_base64: bool) -> None:
        super().__init__()
        self._as_base64 = as_base64
        #: By number, and then by the first token that it is of.
        self._pieces: dict[int, dict[int, tuple[VectorDelta, bytes]]] = {}

    def add(self, delta: Delta) -> None:
        if isinstance(delta, VectorDelta):
            written = delta.vector if self._as_base64 else _rows(delta)
            self._pieces.setdefault(delta.number, {})[delta.row] = delta, written

    def inputs(self) -> list[WrittenInput]:
        """Return what has come of each input, in their order."""
        return [self._input(pieces) for _, pieces in sorted(self._pieces.items())]

    def _input(self, pieces: dict[int, tuple[VectorDelta, bytes]]) -> WrittenInput:
        ordered = [pieces[row] for row in sorted(pieces)]
        first = ordered[0][0]
        written = [piece for _, piece in ordered]
        if self._as_base64:
            body = json_of_base64(b"".join(written))
        else:
            body = b"[%b]" % b",".join(written) if first.rows else written[0]
        return WrittenInput(body, len(first.vector) // 4, first.label)


def _rows(delta: VectorDelta) -> bytes:
    """Return one vector as a JSON array, several as arrays with commas between them."""
    numbers = numbers_of(delta.vector).tolist()
    if not delta.rows:
        return orjson.dumps(numbers)
    width = len(numbers) // delta.rows
    rows = [numbers[at : at + width] for at in range(0, len(numbers), width)]
    return orjson.dumps(rows)[1:-1]
