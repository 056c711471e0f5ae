"""Sounds in requests: known by how they begin, and bounded."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from msgspec.structs import replace

from contract.config.media import MediaConfig
from contract.media import media_of
from contract.messages import ChatMessage, Job, Sampling
from gateway.api.content import part_of
from gateway.api.media import medium_of
from gateway.api.responses.schemas import ResponsesRequest
from gateway.http.errors import ApiError
from gateway.jobs.media.intake import MediaIntake

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt "


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": coded(WAV), "format": "wav"}},
        {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{coded(WAV)}"}},
    ],
)
def test_both_parts_are_sounds_in_chats_and_responses(part: dict[str, Any]) -> None:
    sound = medium_of("audio", coded(WAV), "audio/wav")
    assert part_of(part) == sound
    turn = {"role": "user", "content": [part, {"type": "input_text", "text": "hi"}]}
    (job,) = ResponsesRequest.model_validate({"model": "m", "input": [turn]}).jobs("j", "k")
    assert media_of(job) == [sound]


@pytest.mark.parametrize(
    ("data", "type_"),
    [
        (WAV, "audio/wav"),
        (b"ID3\x04", "audio/mp3"),
        (b"\xff\xfb\x90\x00", "audio/mp3"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"fLaC\x00", "audio/flac"),
        (b"OggS\x00", "audio/ogg"),
        (b"\x00\x00\x00\x20ftypM4A ", "audio/mp4"),
        (b"\x1aE\xdf\xa3\x01", "audio/webm"),
    ],
)
def test_a_sound_has_the_type_that_it_begins_with_and_its_bound(data: bytes, type_: str) -> None:
    intake = MediaIntake(MediaConfig(max_speech_s=7))
    sound = replace(medium_of("audio", coded(data), "audio/whatever"), at=1)
    job = Job("j", "m", Sampling(), messages=(ChatMessage("user", "so", media=(sound,)),))
    (known,) = media_of(intake.check(job, ("audio",)))
    assert (known.type, known.most_s, known.data, known.at) == (type_, 7, data, 1)


@pytest.mark.parametrize(
    ("data", "config", "takes", "why"),
    [
        (b"\x7fELF\x02", MediaConfig(), ("audio",), "not readable as WAV, MP3"),
        (WAV, MediaConfig(kinds=["image"]), ("audio",), "takes no sound"),
        (WAV, MediaConfig(), ("image",), "model `m` takes no sound"),
        (WAV + bytes(1024), MediaConfig(max_bytes=1024), ("audio",), "at most 1024"),
    ],
)
def test_a_sound_that_may_not_come_in_is_refused(
    data: bytes, config: MediaConfig, takes: tuple[str, ...], why: str
) -> None:
    turn = ChatMessage("user", "", media=(medium_of("audio", coded(data)),))
    with pytest.raises(ApiError, match=why):
        MediaIntake(config).check(Job("j", "m", Sampling(), messages=(turn,)), takes)
