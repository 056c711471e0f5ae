"""Recorded traffic as it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.benchmark.recording import read_recording
from orchestrator.errors import UserError


def test_requests_come_by_time_from_the_first_on_at_the_speed_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "recorded.jsonl"
    file.write_text(
        '{"at": 30, "body": {"model": "theirs", "n": 2}}\n\n'
        '{"at": 10, "url": "/v1/completions", "custom_id": "of a batch", "body": {"n": 1}}\n'
    )
    first, second = read_recording(file, "ours", speed=2)
    assert (first.at_s, first.path, first.body) == (0, "/completions", {"n": 1, "model": "ours"})
    assert (second.at_s, second.path) == (10, "/chat/completions")
    assert second.body == {"n": 2, "model": "ours"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no requests"),
        ('{"body": {}}\n{"at": 1}\n', "line 2: Object missing required field `body`"),
        ("{]", "line 1: JSON is malformed"),
        ('{"body": {}, "at": "now"}', "line 1: Expected `float`, got `str`"),
        ('{"body": {}, "method": "GET"}', "line 1: the method is `GET`"),
        ('{"body": {}, "url": "http://elsewhere/"}', "line 1: `url` is `http://elsewhere/`"),
    ],
)
def test_a_wrong_line_is_named(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "recorded.jsonl"
    file.write_text(text)
    with pytest.raises(UserError) as refused:
        read_recording(file, "ours", 1)
    assert said in refused.value.message
    assert refused.value.hint
