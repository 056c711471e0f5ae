"""Forms of sound, by how they begin, before anyone decodes them."""

from __future__ import annotations

import re
from typing import Final

#: Those that the models' libraries read in common.
_FORMS: Final = {
    "audio/wav": re.compile(rb"RIFF....WAVE", re.DOTALL),
    "audio/flac": re.compile(rb"fLaC"),
    "audio/ogg": re.compile(rb"OggS"),
    "audio/mp4": re.compile(rb"....ftyp", re.DOTALL),
    "audio/webm": re.compile(rb"\x1a\x45\xdf\xa3"),
    # The first bits of a frame; those of its layer tell MP3 from AAC.
    "audio/mp3": re.compile(rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]"),
    "audio/aac": re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"),
}


def sound_type(data: bytes) -> str:
    """Return the media type of a sound; empty if it is of no known form."""
    return next((type_ for type_, begins in _FORMS.items() if begins.match(data)), "")
