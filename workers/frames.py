"""Envelopes in frames that are not too large."""

from __future__ import annotations

from collections.abc import Iterator

from contract.messages import Envelope
from contract.wire import encode_frame

#: Larger frames would make Redis and the gateway stall on one command. (An envelope that is larger
#: by itself is a frame of its own.)
_LARGEST_FRAME_BYTES = 256 * 1024
_MOST_ENVELOPES = 4096


def frames_of(envelopes: list[Envelope]) -> Iterator[bytes]:
    """Envelopes in frames that are not too large, in order."""
    frame = encode_frame(envelopes) if len(envelopes) <= _MOST_ENVELOPES else b""
    if len(envelopes) == 1 or 0 < len(frame) <= _LARGEST_FRAME_BYTES:
        yield frame
    else:
        half = len(envelopes) // 2
        yield from frames_of(envelopes[:half])
        yield from frames_of(envelopes[half:])
