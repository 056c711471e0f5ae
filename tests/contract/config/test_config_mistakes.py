"""Every key of the schema with wrong values: each refusal is one plain line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.config import ConfigError, load_config
from contract.config.variables import SECTIONS

#: Words of pydantic and of Python that are no words of an operator.
LIBRARY = re.compile(
    r"Input should|should be|valid (integer|string|number|dict|tuple)|pydantic|NoneType|"
    r"<list|\bdict\b|\bstr\b"
    r"|\bint\b|bool_|literal|something else|field required|Value error|Traceback",
    re.IGNORECASE,
)
MOCK = {"engine": "mock", "model_path": "x"}
OPENAI = {"engine": "openai", "model_path": "x"}


def wrong_values() -> Iterator[tuple[str, str, Any]]:
    for section, kind in SECTIONS.items():
        for key in kind.model_fields:
            for wrong in (object, [[1]], {"a": [1]}, "80a\n", -1, 1e30, True, [None], {}):
                yield section, key, [{"x": 1}] if wrong is object else wrong


def refusal(path: Path, data: Any) -> str:
    path.write_text(data if isinstance(data, str) else json.dumps(data, indent=1))
    try:
        load_config(path)
    except ConfigError as error:
        return str(error)
    return ""


def test_no_refusal_of_any_key_speaks_of_types(tmp_path: Path) -> None:
    path, refused = tmp_path / "config.json", set()
    for section, key, value in wrong_values():
        data = {section: {"m": {**MOCK, key: value}} if section == "models" else {key: value}}
        said = refusal(path, data)
        if said:
            refused.add((section, key))
        assert not LIBRARY.search(said.replace(json.dumps(value), "")), said
        for line in said.splitlines():
            assert re.fullmatch(rf"{re.escape(str(path))}:\d+: .*`{section}.*", line), said
    assert refused == {(section, key) for section, key, _ in wrong_values()}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"redis": {"url": "localhost:6379"}}, "3: `redis.url` must begin with redis://"),
        ({"redis": {"url": "http://h"}}, "3: `redis.url` must begin with redis://"),
        ({"redis": {"url": "redis:h"}}, "3: `redis.url` must begin with redis://"),
        ({"redis": {"url": "redis://h:port/0"}}, "3: `redis.url` has no usable host and port"),
        ({"redis": {"url": "redis://h:70000"}}, "3: `redis.url` has no usable host and port"),
        ({"redis": {"url": "redis://h:0"}}, "3: `redis.url` has the port 0"),
        ({"redis": {"url": "redis://h/first"}}, "3: `redis.url` ends in a database that is no"),
        ({"redis": {"url": "unix://"}}, "3: `redis.url` names no socket"),
        ({"redis": {"url": ""}}, "3: `redis.url` must begin with redis://"),
        ({"gateway": {"host": "http://h"}}, '3: `gateway.host` is "http://h"; it must be a name'),
        ({"gateway": {"host": "h:80"}}, '3: `gateway.host` is "h:80"; it must be a name'),
        ({"gateway": {"host": "[::1]"}}, '3: `gateway.host` is "[::1]"; it must be a name'),
        ({"gateway": {"host": ""}}, '3: `gateway.host` is ""; it must be a name'),
        ({"gateway": {"host": "a b"}}, '3: `gateway.host` is "a b"; it must be a name'),
        ({"models": {"m": OPENAI}}, "4: `models.m.engine` `openai` needs `base_url`"),
        (
            {"models": {"m": {**OPENAI, "base_url": "http://h", "command": ["x"]}}},
            "6: `models.m.base_url` and `command` exclude each other",
        ),
        ({"models": {"m": {**OPENAI, "command": []}}}, "6: `models.m.command` is empty"),
        ({"models": {"m": {**OPENAI, "command": [""]}}}, "6: `models.m.command` is empty"),
        (
            {"models": {"m": {**OPENAI, "base_url": "h:80/v1"}}},
            '6: `models.m.base_url` is "h:80/v1"; it must be an address like http://',
        ),
        ({"models": {"m": {**OPENAI, "base_url": "http://h:x"}}}, "6: `models.m.base_url` is "),
        ({"models": {"m": {**OPENAI, "base_url": "ftp://h"}}}, "6: `models.m.base_url` is "),
        ({"models": {"m": {**OPENAI, "base_url": "http://"}}}, "6: `models.m.base_url` is "),
        (
            {"models": {"m": {**MOCK, "base_url": "http://h"}}},
            "6: `models.m.base_url` is for the `openai` engine only",
        ),
        ({"models": {"m": {**MOCK, "idle_unload_s": 5}}}, "6: `models.m.idle_unload_s` is for mod"),
        ({"models": {"m": {**MOCK, "gpus": []}}}, "6: `models.m.gpus` is empty"),
        (
            {
                "models": {
                    "m": {**MOCK, "max_model_len": 9, "max_input_len": 8, "max_output_len": 2}
                }
            },
            "6: `models.m.max_model_len` is 9, less than",
        ),
    ],
)
def test_what_contradicts_itself_is_one_line(tmp_path: Path, data: Any, said: str) -> None:
    path = tmp_path / "config.json"
    refused = refusal(path, data)
    assert refused.startswith(f"{path}:{said}"), refused
    assert "\n" not in refused


@pytest.mark.parametrize(
    "data",
    [
        {"redis": {"url": "redis://user:p%40ss@h:1/2"}},
        {"redis": {"url": "rediss://h?ssl_cert_reqs=none"}},
        {"redis": {"url": "unix:///a/b.sock?db=1"}},
        {"gateway": {"host": "::1"}},
        {"gateway": {"host": "my-host.local"}},
        {"models": {"m": {**OPENAI, "command": ["x"], "base_url": "http://127.0.0.1:{port}/api"}}},
        {"models": {"m": {**MOCK, "max_model_len": 9, "max_input_len": 7, "max_output_len": 2}}},
    ],
)
def test_what_is_right_is_not_refused(tmp_path: Path, data: Any) -> None:
    assert refusal(tmp_path / "config.json", data) == ""
