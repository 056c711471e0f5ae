"""Sounds on their way to vLLM, without it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from contract.asked import Media
from contract.messages import ChatMessage, Job, Sampling
from workers.engines.vllm.media import sounds


@pytest.mark.parametrize(
    ("method", "becomes"), [("no_such_library", "pyav"), ("json", "json"), ("pyav", "pyav")]
)
def test_rates_are_changed_by_a_library_that_is_there(method: str, becomes: str) -> None:
    resampler = SimpleNamespace(method=method)
    parser = SimpleNamespace(audio_resampler=resampler)
    sounds.resample_by_what_is_installed(SimpleNamespace(data_parser=parser))
    assert resampler.method == becomes


def test_sounds_of_a_request_share_their_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[float] = []

    def decoded(sound: bytes, rate: float | None, most_s: float) -> tuple[Any, float]:
        allowed.append(most_s)
        return None, len(sound)

    monkeypatch.setattr(sounds, "decoded", decoded)
    media = [Media(kind, 0, data=bytes(4), most_s=10) for kind in ("audio", "image", "audio")]
    turns = (
        ChatMessage("user", "", media=(media[0],)),
        ChatMessage("user", "", media=(*media[1:],)),
    )
    sounds.check_sounds(Job("j", "m", Sampling(), messages=turns))
    assert allowed == [10, 6]


def test_releases_without_bounds_take_no_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "load_audio", None)
    assert not sounds.can_bound_sounds()
