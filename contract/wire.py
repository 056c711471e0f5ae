"""How jobs and events cross a process: as msgpack.

A `Job` is a map, which may gain fields. A frame is an array of `Envelope`s, each event an array
whose first item is its tag (it is decoded once per token).
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from contract.messages import UNREADABLE, Envelope, ErrorCode, Event, Failed, Job

#: An envelope without names, which takes a third less time to decode and to take apart.
EnvelopeParts: TypeAlias = tuple[str, int, int, Event]

_job_encoder = msgspec.msgpack.Encoder()
encode_job = _job_encoder.encode
decode_job = msgspec.msgpack.Decoder(Job).decode
encode_frame = msgspec.msgpack.Encoder().encode
_decode_envelopes = msgspec.msgpack.Decoder(list[EnvelopeParts]).decode
_decode_raw = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_envelope = msgspec.msgpack.Decoder(EnvelopeParts).decode
_decode_undecoded = msgspec.msgpack.Decoder(tuple[str, int, int, msgspec.Raw]).decode


def decode_frame(frame: bytes) -> list[Envelope]:
    """Return the envelopes of a frame, as `decode_parts` does."""
    return [Envelope(*parts) for parts in decode_parts(frame)]


def decode_parts(frame: bytes) -> list[EnvelopeParts]:
    """Return the envelopes of a frame. An envelope whose event cannot be read becomes a `Failed` of
    the same job and attempt, so that the others in its frame are not harmed.

    Raises `UNREADABLE` if it cannot be told whose envelopes they are.
    """
    try:
        return _decode_envelopes(frame)
    except UNREADABLE:
        return [_decode_alone(raw) for raw in _decode_raw(frame)]


def _decode_alone(raw: msgspec.Raw) -> EnvelopeParts:
    try:
        parts: EnvelopeParts = _decode_envelope(raw)
        return parts
    except UNREADABLE:
        job_id, attempt, seq, _ = _decode_undecoded(raw)
        message = "a part of the answer cannot be read"
        return job_id, attempt, seq, Failed(ErrorCode.LOST, message)
