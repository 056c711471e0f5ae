"""How jobs and events cross a process: as msgpack.

A `Job` is a map, which may gain fields. A frame is an array of `Envelope`s, each event an array
whose first item is its tag (it is decoded once per token).
"""

from __future__ import annotations

import msgspec

from contract.messages import UNREADABLE, Envelope, ErrorCode, Failed, Job

_job_encoder = msgspec.msgpack.Encoder()
encode_job = _job_encoder.encode
decode_job = msgspec.msgpack.Decoder(Job).decode
encode_frame = msgspec.msgpack.Encoder().encode
_decode_envelopes = msgspec.msgpack.Decoder(list[Envelope]).decode
_decode_parts = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_envelope = msgspec.msgpack.Decoder(Envelope).decode
_decode_undecoded = msgspec.msgpack.Decoder(tuple[str, int, int, msgspec.Raw]).decode


def decode_frame(frame: bytes) -> list[Envelope]:
    """Return the envelopes of a frame. An envelope whose event cannot be read becomes a `Failed` of
    the same job and attempt, so that the others in its frame are not harmed.

    Raises `UNREADABLE` if it cannot be told whose envelopes they are.
    """
    try:
        return _decode_envelopes(frame)
    except UNREADABLE:
        return [_decode_alone(part) for part in _decode_parts(frame)]


def _decode_alone(part: msgspec.Raw) -> Envelope:
    try:
        return _decode_envelope(part)
    except UNREADABLE:
        job_id, attempt, seq, _ = _decode_undecoded(part)
        message = "a part of the answer cannot be read"
        return Envelope(job_id, attempt, seq, Failed(ErrorCode.LOST, message))
