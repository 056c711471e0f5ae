"""Configurations of the openai engine that cannot work, and what they mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from contract.config import ModelConfig, WorkerSpec
from workers.engines.openai.engine import OpenAiEngine
from workers.engines.openai.upstream import Upstream, UpstreamSettings


def _configured(**model: Any) -> WorkerSpec:
    return WorkerSpec(
        name="w",
        model_id="m",
        model=ModelConfig(engine="openai", model_path="none", **model),
        engine="openai",
        env="-",
        redis_url="unix:///none",
    )


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({}, "needs `base_url` or `command`"),
        ({"base_url": "localhost:8000"}, "is no address like"),
        ({"base_url": "http://h", "api_key_env": "NO_SUCH"}, "NO_SUCH is not set"),
        ({"base_url": "http://h", "engine_args": {"timeout": 3}}, "has no argument `timeout`"),
        ({"base_url": "http://h", "adapter_path": "lora"}, "loads no adapters"),
    ],
)
async def test_a_configuration_that_cannot_work_says_why(model: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        OpenAiEngine(_configured(**model))


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/v1/", "http://h:1/v1"),
        ("https://h/openai/v2", "https://h/openai/v2"),
    ],
)
async def test_a_host_alone_means_its_first_version(given: str, url: str) -> None:
    spec = _configured(base_url=given)
    upstream = Upstream("m", spec.model, OpenAiEngine(spec)._settings)
    assert upstream.url == url
    await upstream.close()


def test_the_settings_are_what_the_documentation_lists() -> None:
    text = (Path(__file__).parents[3] / "docs" / "engines.md").read_text(encoding="utf-8")
    missing = [name for name in _setting_names() if f"`{name}`" not in text]
    assert not missing


def _setting_names() -> Iterable[str]:
    return (field.name for field in dataclasses.fields(UpstreamSettings))
