"""Sounds, decoded by vLLM within bounds."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import Any, Final

from contract.media import media_of
from contract.messages import Job

try:
    from vllm.multimodal.audio import get_audio_duration
    from vllm.multimodal.media.audio import load_audio
except ImportError:  # Before 0.32.
    load_audio = None

#: Of one sound, decoded: 4 bytes a sample.
_MOST_DECODED_BYTES: Final = 1 << 28


class SoundUnread(ValueError):
    """Bytes that are no sound, or too long a sound."""


def can_bound_sounds() -> bool:
    """Whether this release decodes no more of a sound than it is told."""
    return load_audio is not None


def resample_by_what_is_installed(info: Any) -> None:
    """Have vLLM's reader of a model's media change rates of sound by PyAV if it would by a library
    that is not there: on a CPU ew installs no torchaudio."""
    resampler: Any = getattr(info.data_parser, "audio_resampler", None)
    method = getattr(resampler, "method", "pyav")
    if method != "pyav" and find_spec(method) is None:
        resampler.method = "pyav"


def decoded(sound: bytes, rate: float | None, most_s: float) -> tuple[Any, float]:
    """Return the samples of a sound, at its own rate if it is to have no other, and its seconds.
    Raises `SoundUnread`."""
    try:
        samples, found_rate = load_audio(
            io.BytesIO(sound),
            sr=rate,
            mono=True,
            max_duration_s=most_s,
            max_decode_bytes=_MOST_DECODED_BYTES,
        )
    # Decoders raise what they like.
    except Exception as error:
        raise SoundUnread(_reason(error)) from error
    return samples, float(get_audio_duration(y=samples, sr=found_rate))


def check_sounds(job: Job) -> None:
    """Decode the sounds of a chat, which together may be as long as each of them says. vLLM's
    renderer decodes them again, with no bound but 600 s for each. Raises `SoundUnread`."""
    left: float | None = None
    for each in media_of(job):
        if each.kind == "audio":
            left = each.most_s if left is None else left
            left -= decoded(each.data, None, left)[1]


def _reason(error: Exception) -> str:
    """Return why a sound cannot be read, without vLLM's advice to its own operators."""
    said, advice, _ = str(error).partition(" Set VLLM_MAX_AUDIO_")
    return said + (" (`gateway.media.max_speech_s` bounds it)" if advice else "")
