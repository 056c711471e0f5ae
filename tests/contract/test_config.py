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
        ({"limits": {"max_waiting": 0}}, "FILE:3: `limits.max_waiting`: input should be greater"),
        ({"gateway": {"port": "http"}}, "FILE:3: `gateway.port`: input should be a valid integer"),
        ({"gateway": {"port": 65536}}, "FILE:3: `gateway.port`: input should be less than or eq"),
        ({"gateway": []}, "FILE:2: `gateway`: input should be a valid dictionary"),
        ({"models": {"m": {"engine": "mock"}}}, "FILE:3: `models.m.model_path`: field required"),
        ({"models": {"m": {**MODEL, "engine": "vlm"}}}, "FILE:5: `models.m.engine`: input should"),
        ({"models": {"a b": MODEL}}, "FILE:3: `models.a b`: string should match pattern"),
        ({"models": {"a/": MODEL}}, "FILE:3: `models.a/`: string should match pattern"),
        ({"models": {"a/../b": MODEL}}, "FILE:3: `models.a/../b`: string should match pattern"),
        ({"models": {"a" * 97: MODEL}}, f"FILE:3: `models.{'a' * 97}`: string should have at most"),
        (
            {"models": {"a": {**MODEL, "aliases": ["b"]}, "b": MODEL}},
            "FILE:2: `models`: `b` is a name of both `a` and `b`; a name has one model",
        ),
        (
            {"models": {"a": {**MODEL, "served_model_name": "c"}, "b": {**MODEL, "aliases": "c"}}},
            "FILE:11: `models.b.aliases`: input should be a valid tuple",
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
            "FILE:7: `models.m.sampling.temperature`: input should be less than or equal to 2",
        ),
        (
            {"models": {"m": {**MODEL, "max_output_len": 9, "sampling": {"max_tokens": 10}}}},
            "FILE:3: `models.m`: `sampling.max_tokens` (10) is more than `max_output_len` (9)",
        ),
        (
            {"models": {"m": {**MODEL, "command": ["a", 1]}}},
            "FILE:6: `models.m.command.1`: input should be a valid string",
        ),
        ('{"gateway": {"drain_timeout_s": Infinity}}', "FILE:1: `gateway.drain_timeout_s`: input"),
        ('{"limits": {"token_gap_timeout_s": NaN}}', "FILE:1: `limits.token_gap_timeout_s`: inp"),
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
        ('{\n "gateway": {},\n "redis"\n}', "FILE:4: not valid JSON: "),
        ("", "FILE:1: not valid JSON: Expecting value"),
        ("// hello\n{}", "FILE:1: not valid JSON: "),
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
        ("EW_GATEWAY__PORT", "http", "`gateway.port`: input should be a valid integer"),
        ("EW_GATEWAY__PORT__X", "1", "`gateway.port`: input should be a valid integer"),
        ("EW_GATEWAY", '{"port": -1}', "`gateway.port`: input should be greater"),
        ("EW_GATEWAY", "port=1", "not valid JSON: Expecting value"),
        ("EW_GATWAY__PORT", "1", "unknown section `gatway`; did you mean `gateway`?"),
        ("EW_MODELS", "[1]", "`models`: input should be a valid dictionary"),
        ("EW_MODELS", '{"m": {}}', "`models.m.model_path`: field required"),
        ("EW_MODELS__M__COMMAND", "[", "not valid JSON: Expecting value"),
        ("EW_MODELS__M__ENGINE", "mock", "`models.m.model_path`: field required"),
        ("EW_LIMITS__MAX_CHOICES", "0", "`limits.max_choices`: input should be greater"),
        ("EW_GATEWAY__DRAIN_TIMEOUT_S", "inf", "`gateway.drain_timeout_s`: input should be a fin"),
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
        "FILE:6: `models.m.model_path`: field required",
        "FILE:3: `gateway.port`: input should be greater than or equal to 0",
    ]


def test_variables_that_are_not_of_the_configuration_are_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EW_STATE_DIR", "EW_WORKER", "EW_LOG_LEVEL", "EW_CONFIG"):
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
        ({"max_input_len": 4, "max_output_len": 3, "max_model_len": 5}, 5),
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
    assert load_config(Path(__file__).parents[2] / "deploy" / "config.json").models
