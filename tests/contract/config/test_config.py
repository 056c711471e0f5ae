"""The configuration: a mistake names its place, its key, and what was probably meant."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from contract.config import (
    Config,
    ConfigError,
    WorkerSpec,
    ids_by_name,
    is_repo_id,
    load_config,
    names_of,
)
from contract.config.variables import unknown_variables

MODEL = {"model_path": "some/model", "engine": "mock"}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("EW_"):
            monkeypatch.delenv(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def load(path: Path, data: Any) -> Config:
    path.write_text(data if isinstance(data, str) else json.dumps(data, indent=1))
    return load_config(path)


def complaint(path: Path, data: Any) -> str:
    with pytest.raises(ConfigError) as refusal:
        load(path, data)
    return str(refusal.value).replace(str(path), "FILE")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"modles": {}}, "FILE:2: unknown key `modles`; did you mean `models`?"),
        ({"xyz": 1}, "FILE:2: unknown key `xyz`"),
        (
            {"gateway": {"host": "::1", "prot": 1}},
            "FILE:4: unknown key `gateway.prot`; did you mean `port`?",
        ),
        (
            {"models": {"m": {**MODEL, "max_batchsize": 4}}},
            "FILE:6: unknown key `models.m.max_batchsize`; did you mean `max_batch_size`?",
        ),
        (
            {"limits": {"max_waiting": 0}},
            "FILE:3: `limits.max_waiting` is 0; it must be a whole number, at least 1",
        ),
        (
            {"gateway": {"port": "80a"}},
            'FILE:3: `gateway.port` is "80a"; it must be a whole number from 0 to 65535',
        ),
        (
            {"gateway": {"port": 65536}},
            "FILE:3: `gateway.port` is 65536; it must be a whole number from",
        ),
        ({"gateway": []}, "FILE:2: `gateway` is []; it must be an object, as in {...}"),
        (
            {"models": {"m": {"engine": "mock"}}},
            "FILE:3: `models.m.model_path` is missing; it must be a text",
        ),
        (
            {"models": {"m": {**MODEL, "engine": "vlm"}}},
            'FILE:5: `models.m.engine` is "vlm"; it must be one of `vllm`, ',
        ),
        (
            {"models": {"a b": MODEL}},
            "FILE:3: `models.a b` is no name for a model: at most 96 letters",
        ),
        (
            {"limits": {"groups": {"g" * 65: {}}}},
            f"FILE:4: `limits.groups.{'g' * 65}` is no name for a group: 1 to 64 letters",
        ),
        (
            {"models": {"m": {**MODEL, "hosts": ["gpu 1"]}}},
            'FILE:6: `models.m.hosts.0` is "gpu 1"; it must be a host\'s name, or a pattern',
        ),
        ({"models": {"a/": MODEL}}, "FILE:3: `models.a/` is no name for a model"),
        ({"models": {"a/../b": MODEL}}, "FILE:3: `models.a/../b` is no name for a model"),
        ({"models": {"a" * 97: MODEL}}, f"FILE:3: `models.{'a' * 97}` is no name for a model"),
        (
            {"models": {"a": {**MODEL, "aliases": ["b"]}, "b": MODEL}},
            "FILE:2: `models`: `b` is a name of both `a` and `b`; a name has one model",
        ),
        (
            {"models": {"a": {**MODEL, "served_model_name": "c"}, "b": {**MODEL, "aliases": "c"}}},
            'FILE:11: `models.b.aliases` is "c"; it must be a list, each item a name for a model',
        ),
        (
            {
                "models": {
                    "a": {**MODEL, "served_model_name": "c"},
                    "b": {**MODEL, "aliases": ["x", "c"]},
                }
            },
            "FILE:2: `models`: `c` is a name of both `a` and `b`; a name has one model",
        ),
        (
            {"models": {"m": {**MODEL, "sampling": {"temperature": 3}}}},
            "FILE:7: `models.m.sampling.temperature` is 3; it must be a number from 0 to 2",
        ),
        (
            {"models": {"m": {**MODEL, "sampling": {"temprature": 3}}}},
            "FILE:7: unknown key `models.m.sampling.temprature`; did you mean `temperature`?",
        ),
        (
            {"hub": {"endpoint": "ftp://x"}},
            'FILE:3: `hub.endpoint` is "ftp://x"; it must be an address like https://host',
        ),
        (
            {"models": {"m": {**MODEL, "max_output_len": 9, "sampling": {"max_tokens": 10}}}},
            "FILE:3: `models.m`: `sampling.max_tokens` (10) is more than `max_output_len` (9)",
        ),
        (
            {"models": {"m": {**MODEL, "command": ["a", 1]}}},
            "FILE:6: `models.m.command.1` is 1; it must be a text",
        ),
        (
            '{"gateway": {"drain_timeout_s": Infinity}}',
            "FILE:1: `gateway.drain_timeout_s` is Infinity; it must be a number",
        ),
        (
            '{"limits": {"token_gap_timeout_s": NaN}}',
            "FILE:1: `limits.token_gap_timeout_s` is NaN; it must be a number above 0",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named_with_file_and_line(path: Path, data: Any, said: str) -> None:
    assert complaint(path, data).startswith(said)


def test_a_model_may_be_called_as_its_repository_and_by_other_names(path: Path) -> None:
    model_id = "Qwen/Qwen2.5-7B-Instruct"
    model = {**MODEL, "aliases": ["qwen", "team/x/y_z", model_id], "served_model_name": "qwen"}
    config = load(path, {"models": {model_id: model, "other": MODEL}})
    assert names_of(model_id, config.models[model_id]) == [model_id, "qwen", "team/x/y_z"]
    assert ids_by_name(config.models) == {
        model_id: model_id,
        "qwen": model_id,
        "team/x/y_z": model_id,
        "other": "other",
    }


def test_all_mistakes_are_told_at_once(path: Path) -> None:
    data = {"gateway": {"prot": 1}, "limits": {"max_waiting": -1}, "models": {"m": {}}}
    lines = complaint(path, data).splitlines()
    assert [line.split(":")[1] for line in lines] == ["9", "3", "6"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n "gateway": {},\n "gateway": {}\n}', "FILE:3: `gateway` is given twice"),
        ('{"gateway": {"port": 1,\n"port": 2}}', "FILE:2: `gateway.port` is given twice"),
        ('{"models": {\n"m": 1,\n\n"m": 2}}', "FILE:4: `models.m` is given twice"),
        ('{\n "gateway": {},,\n}', "FILE:2: not valid JSON: "),
        ("{\n /* never ends", "FILE:2: not valid JSON: "),
        ("", "FILE:1: not valid JSON: expecting value"),
        ("// hello\n[", "FILE:2: not valid JSON: "),
        ("[]", "FILE:1: expected an object"),
        ('"models"', "FILE:1: expected an object"),
    ],
)
def test_text_that_is_no_configuration_is_refused_with_its_line(
    path: Path, text: str, said: str
) -> None:
    assert complaint(path, text).startswith(said)


def test_a_file_that_is_not_utf_8_is_named_with_its_line(path: Path) -> None:
    path.write_bytes(b'{\n "models": {\n "\xff": {}}}')
    with pytest.raises(ConfigError, match=r"config\.json:3: not UTF-8 text"):
        load_config(path)


@pytest.mark.parametrize("kind", ["missing", "directory"])
def test_a_file_that_cannot_be_read_is_named(path: Path, kind: str) -> None:
    if kind == "directory":
        path.mkdir()
    with pytest.raises(ConfigError, match=r"config\.json: (No such file|Is a directory)"):
        load_config(path)


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=r"config\.json: a pipe, and no file"):
        load_config(path)
    reading, writing = os.pipe()
    os.write(writing, b'{"models": {}}')
    os.close(writing)
    assert load_config(Path(f"/dev/fd/{reading}")).models == {}
    os.close(reading)


def test_an_empty_configuration_is_one_with_defaults(path: Path) -> None:
    config = load(path, {"$schema": "config.schema.json"})
    assert (config.models, config.gateway.host, config.redis.url) == ({}, "127.0.0.1", None)


def test_variables_win_over_the_file_key_by_key(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EW_GATEWAY__PORT", "9000")
    monkeypatch.setenv("EW_LIMITS", '{"max_waiting": 7}')
    monkeypatch.setenv("EW_MODELS__m__REPLICAS", "3")
    data = {
        "gateway": {"host": "::1", "port": 1},
        "limits": {"max_choices": 2},
        "models": {"m": MODEL},
    }
    config = load(path, data)
    assert (config.gateway.host, config.gateway.port) == ("::1", 9000)
    assert (config.limits.max_choices, config.limits.max_waiting) == (2, 7)
    assert (config.models["m"].replicas, config.models["m"].engine) == (3, "mock")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("EW_GATEWAY__PROT", "1", "unknown key `gateway.prot`; did you mean `port`?"),
        ("EW_GATEWAY__PORT", "http", '`gateway.port` is "http"; it must be a whole'),
        ("EW_GATEWAY__PORT__X", "1", '`gateway.port` is {"x": "1"}; it must be a whole'),
        ("EW_GATEWAY", '{"port": -1}', "`gateway.port` is -1; it must be"),
        ("EW_GATEWAY", "port=1", "not valid JSON: expecting value"),
        ("EW_GATWAY__PORT", "1", "unknown section `gatway`; did you mean `gateway`?"),
        ("EW_MODELS", "[1]", "`models` is [1]; it must be an object"),
        ("EW_MODELS", '{"m": {}}', "`models.m.model_path` is missing"),
        ("EW_MODELS__M__COMMAND", "[", "not valid JSON: expecting value"),
        ("EW_MODELS__M__ENGINE", "mock", "`models.m.model_path` is missing"),
        ("EW_LIMITS__MAX_CHOICES", "0", '`limits.max_choices` is "0"; it must be'),
        ("EW_GATEWAY__DRAIN_TIMEOUT_S", "inf", '`gateway.drain_timeout_s` is "inf"; it must'),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    assert complaint(path, {"gateway": {"port": 80}}).startswith(f"{name}: {said}")


def test_a_mistake_in_the_file_is_not_blamed_on_a_variable_beside_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EW_GATEWAY", '{"host": "::1"}')
    monkeypatch.setenv("EW_MODELS__M__ENGINE", "mock")
    data = {"gateway": {"port": -1}, "models": {"m": {}}}
    assert complaint(path, data).splitlines() == [
        "FILE:6: `models.m.model_path` is missing; it must be a text",
        "FILE:3: `gateway.port` is -1; it must be a whole number from 0 to 65535",
    ]


def test_variables_that_are_not_of_the_configuration_are_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EW_STATE_DIR", "EW_WORKER", "EW_PYTHON", "EW_CONFIG"):
        monkeypatch.setenv(name, "{")
    assert load(path, {}).models == {}


def test_nothing_can_be_changed_after_loading(path: Path) -> None:
    config = load(path, {"models": {"m": MODEL}})
    for part, key in ((config, "models"), (config.gateway, "port"), (config.models["m"], "env")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, key, None)


@pytest.mark.parametrize(
    ("given", "length"),
    [
        ({}, None),
        ({"max_model_len": 9}, 9),
        ({"max_input_len": 4, "max_output_len": 3}, 7),
        ({"max_input_len": 4}, None),
        ({"max_input_len": 4, "max_output_len": 3, "max_model_len": 9}, 9),
    ],
)
def test_the_context_is_what_was_said_or_prompt_and_answer_together(
    path: Path, given: dict[str, int], length: int | None
) -> None:
    assert load(path, {"models": {"m": MODEL | given}}).models["m"].context_len == length


def test_a_worker_gets_its_part_as_json_and_nothing_else(path: Path) -> None:
    model = load(path, {"models": {"m": {**MODEL, "engine_args": {"a": [1, {"b": None}]}}}})
    spec = WorkerSpec(
        name="m-0",
        model_id="m",
        model=model.models["m"],
        engine="mock",
        env="e",
        redis_url="unix://s",
    )
    assert WorkerSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValidationError):
        WorkerSpec.model_validate({**spec.model_dump(), "colour": "red"})


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("Qwen/Qwen2.5-0.5B", True),
        ("models/x", True),
        ("./models/x", False),
        ("/models/x", False),
        ("x", False),
        ("a/b/c", False),
        ("a/b c", False),
        ("a/b\n", False),
    ],
)
def test_a_repository_id_has_one_slash_and_no_path(text: str, is_one: bool) -> None:
    assert is_repo_id(text) == is_one


def test_the_configuration_that_ships_is_valid() -> None:
    assert load_config(Path(__file__).parents[3] / "deploy" / "config.json").models


def test_comments_a_last_comma_and_a_byte_order_mark_are_read(path: Path) -> None:
    text = """\ufeff// mine
{ /* "gateway": {"port": 1}, */
  "models": {"m": {"engine": "mock", "model_path": "http://no//comment,]", },},
  "gateway": {"port": 2}, // the last
}"""
    config = load(path, text)
    assert (config.gateway.port, config.models["m"].model_path) == (2, "http://no//comment,]")
    assert complaint(path, text.replace("2}", "-2,}")).startswith("FILE:4: `gateway.port` is -2")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("EW_GATEWAY_PORT", "EW_GATEWAY_PORT means nothing to ew; did you mean EW_GATEWAY__PORT?"),
        ("EW_STATE_DIRS", "EW_STATE_DIRS means nothing to ew; did you mean EW_STATE_DIR?"),
        ("EW_FOO", "EW_FOO means nothing to ew"),
    ],
)
def test_a_variable_of_no_meaning_is_named_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv("EW_GATEWAY__PORT", "1")
    monkeypatch.setenv("EW_CONFIG", "x")
    assert list(unknown_variables()) == [said]


def test_a_log_level_that_is_none_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EW_LOG_LEVEL", "loud")
    assert complaint(path, {}).startswith('EW_LOG_LEVEL is "loud"; it must be one of debug, info')
