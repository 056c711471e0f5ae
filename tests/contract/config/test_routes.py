"""Other models that an entry names: mistakes are refused, and limits of theirs are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contract.config import Config, ConfigError, load_config
from contract.config.checks.heeded import remarks

MOCK = {"engine": "mock", "model_path": "none"}


def load(tmp_path: Path, **models: dict[str, Any]) -> Config:
    path = tmp_path / "config.json"
    whole = {name: {**MOCK, **model} for name, model in models.items()}
    path.write_text(json.dumps({"models": whole}, indent=1))
    return load_config(path)


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"a": {"fallback": {"to": ["b"]}}}, "`models.a.fallback` names `b`, which is no model"),
        ({"a": {"split": {"to": {"a": 5}}}}, "`models.a.split` names `a`, the model itself"),
        ({"a": {"shadow": {"to": "a"}}}, "`models.a.shadow` names `a`, the model itself"),
        (
            {"a": {"shadow": {"to": "b"}}, "b": {"shadow": {"to": "a"}}},
            "`models.a.shadow` names `b`, which has a `shadow` itself",
        ),
        ({"a": {"fallback": {"to": []}}}, "`models.a.fallback.to`"),
        (
            {"a": {"split": {"to": {"b": 60, "c": 50}}}, "b": {}, "c": {}},
            "`models.a.split` gives away 110 percent; 100 are all",
        ),
        (
            {"a": {"split": {"to": {"b": 5}}}, "b": {"split": {"to": {"a": 5}}}},
            "`models.a.split` names `b`, which has a `split` itself",
        ),
        (
            {"a": {"aliases": ["x"], "fallback": {"to": ["y"]}}, "b": {"aliases": ["y"]}},
            "`models.a.fallback` names `y`, which is a name of `b`; write `b`",
        ),
        (
            {"a": {"fallback": {"to": ["b"]}}, "b": {"fallback": {"to": ["a"]}}},
            "`models.a.fallback` leads back to the model: a -> b -> a",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, models: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(tmp_path, **models)
    assert said in str(refusal.value)


def test_the_limits_of_another_model_are_told(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        a={"max_model_len": 4096, "fallback": {"to": ["b", "c"]}},
        b={"max_model_len": 1024, "tool_parser": "none"},
        c={"max_model_len": 8192},
    )
    said = [(remark.keys, remark.message) for remark in remarks(config)]
    assert [keys for keys, _ in said] == [
        ["models", "a", "fallback"],
        ["models", "a", "fallback"],
    ]
    assert "takes 1024 tokens at most, and this model 4096" in said[0][1]
    assert "calls no tools" in said[1][1]
