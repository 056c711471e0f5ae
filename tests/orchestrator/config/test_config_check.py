"""Mistakes in a configuration, each told by the real `./ew config check`: exit code 1, one line
with file, line and key (or the variable), and what to do. Those in the command line itself are in
test_mistakes.py; every key with wrong values, without a terminal, is in tests/contract."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.orchestrator.batch import Order, Outcome, run
from tests.orchestrator.terminal import Terminal

#: Words that no message for people may have.
FOREIGN = ("Traceback", "Errno", "pydantic", "Input should", "NoneType", "<class", "dict", "tuple")
MOCK = {"engine": "mock", "model_path": "none"}
VLLM = {"engine": "cpu-vllm", "model_path": "models/good"}
TRT = {"engine": "cuda-trt", "model_path": "models/good"}
SERVER = {"engine": "openai", "model_path": "x", "base_url": "http://127.0.0.1:9/v1"}
STARTED = {"engine": "openai", "model_path": "x", "command": ["true", "{port}"]}


class Mistake(NamedTuple):
    """A configuration (or its text, or variables), and words of the line and of what to do, which
    is in the line or in the hint."""

    config: Any
    line: str
    cure: str
    variables: dict[str, str] = {}  # noqa: RUF012 - it is not changed


def model(of: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"models": {"m": {**of, **settings}}}


#: By name. Lines are those of the JSON with one key in each.
MISTAKES: dict[str, Mistake] = {
    # Things that this host lacks.
    "no such model": Mistake(
        model(VLLM, model_path="/no/such"),
        "5: `models.m.model_path` does not exist: /no/such",
        "give a directory (relative to the project) or a Hugging Face repository id",
    ),
    "no such model for TensorRT-LLM": Mistake(
        model(TRT, model_path="./models/bad"),
        "5: `models.m.model_path` does not exist: ./models/bad",
        "give a directory",
    ),
    "a home that engines do not know": Mistake(
        model(VLLM, model_path="~/mine"),
        "5: `models.m.model_path` does not exist: ~/mine",
        "write it in full: {home}/mine",
    ),
    "a directory above the model": Mistake(
        model(VLLM, model_path="models"),
        "5: `models.m.model_path` has no model in it",
        "did you mean {home}/models/good?",
    ),
    "an empty path": Mistake(
        model(VLLM, model_path=""), "5: `models.m.model_path` has no model in it", "directory"
    ),
    "no such GGUF file": Mistake(
        model({"engine": "llama-cpp", "model_path": "models/tiny.gguf"}),
        "5: `models.m.model_path` is no file here: models/tiny.gguf",
        "give a GGUF file (relative to the project)",
    ),
    "a GGUF file that was not downloaded": Mistake(
        model({"engine": "llama-cpp", "model_path": "some/body/tiny.gguf"}),
        "5: `models.m.model_path` is no file here: some/body/tiny.gguf",
        "`./ew models pull some/body --include 'tiny.gguf'`",
    ),
    "a directory for a GGUF file": Mistake(
        model({"engine": "llama-cpp", "model_path": "models/good"}),
        "5: `models.m.model_path` is no file here: models/good",
        "give a GGUF file",
    ),
    "no such adapter": Mistake(
        model(VLLM, adapters={"tone": "/no/tone"}),
        "7: `models.m.adapters.tone` does not exist: /no/tone",
        "give a directory",
    ),
    "an adapter that is none": Mistake(
        model(VLLM, adapter_path="models/good"),
        "6: `models.m.adapter_path` has no adapter in it: there is no adapter_config.json",
        "directory",
    ),
    "an adapter from a hub for TensorRT-LLM": Mistake(
        model(TRT, adapter_path="some/adapter"),
        "6: `models.m.adapter_path` does not exist: some/adapter",
        "directory",
    ),
    "no key of a server": Mistake(
        model(SERVER, api_key_env="NOBODYS_KEY"),
        "7: `models.m.api_key_env` is the variable NOBODYS_KEY, which is not set",
        "`export NOBODYS_KEY=...`",
    ),
    "no such program": Mistake(
        model(STARTED, command=["no-such-server"]),
        "6: `models.m.command` needs the program `no-such-server`, which is not there",
        "install it",
    ),
    "no such program at a path": Mistake(
        model(STARTED, command=["./bin/none"]),
        "6: `models.m.command` needs the program `./bin/none`, which is not there",
        "whole path",
    ),
    "a program that may not be executed": Mistake(
        model(STARTED, command=["bin/plain", "{port}"]),
        "6: `models.m.command` is a file that may not be executed: {home}/bin/plain",
        "`chmod +x {home}/bin/plain`",
    ),
    "a directory as a program": Mistake(
        model(STARTED, command=["models/good"]),
        "6: `models.m.command` needs the program `models/good`",
        "whole path",
    ),
    "no token where the variable should be": Mistake(
        {"hub": {"token_env": "NOBODYS_TOKEN"}, **model(VLLM, model_path="some/repo")},
        "3: `hub.token_env`: the variable NOBODYS_TOKEN is not set",
        "`export NOBODYS_TOKEN=hf_...`",
    ),
    "no file with the token": Mistake(
        {"hub": {"token_file": "secrets/none"}, **model(VLLM, model_path="some/repo")},
        "3: `hub.token_file`: {home}/secrets/none: No such file",
        "chmod 600",
    ),
    "an empty file with the token": Mistake(
        {"hub": {"token_file": "bin/plain"}, **model(VLLM, model_path="some/repo")},
        "3: `hub.token_file`: {home}/bin/plain is empty",
        "write the token",
    ),
    "an address of another host": Mistake(
        {"gateway": {"host": "192.0.2.1"}},
        "3: `gateway.host`: the host `192.0.2.1` cannot be listened on",
        "an address of this host: 127.0.0.1",
    ),
    "a host that has no address": Mistake(
        {"gateway": {"host": "no.such.host.invalid"}},
        "3: `gateway.host`: the host `no.such.host.invalid` cannot be",
        "127.0.0.1",
    ),
    "an operator's address of another host": Mistake(
        {"gateway": {"admin_port": 9, "admin_host": "192.0.2.1"}},
        "4: `gateway.admin_host`: the host `192.0.2.1` cannot be listened on",
        "127.0.0.1",
    ),
    "a Redis that has no address": Mistake(
        {"redis": {"url": "redis://no.such.host.invalid:6379/0"}},
        "3: `redis.url`: the host `no.such.host.invalid` cannot be",
        "is it spelt right",
    ),
    "a model path given by a variable": Mistake(
        model(MOCK),
        "EW_MODELS__M: `models.m.model_path` does not exist: /no/such",
        "directory",
        {"EW_MODELS__M": '{"engine": "cpu-vllm", "model_path": "/no/such"}'},
    ),
    # Contradictions.
    "a Redis without a scheme": Mistake(
        {"redis": {"url": "localhost:6379"}}, "3: `redis.url` must begin with", "redis://"
    ),
    "keys that are shared over no Redis": Mistake(
        {"keys": {"source": "a", "secret_file": "s"}},
        "3: `keys.source` is for hosts that share one Redis",
        "`redis.url`",
    ),
    "keys that are shared without a secret": Mistake(
        {"redis": {"url": "redis://127.0.0.1:6379"}, "keys": {"source": "a"}},
        "6: `keys.source` needs `keys.secret_file`",
        "openssl rand -hex 32",
    ),
    "neither a server nor a command": Mistake(
        model({"engine": "openai", "model_path": "x"}),
        "4: `models.m.engine` `openai` needs `base_url`",
        "(one to start)",
    ),
    "both a server and a command": Mistake(
        model(SERVER, command=["true"]),
        "6: `models.m.base_url` and `command` exclude each other",
        "keep one",
    ),
    "a server without a scheme": Mistake(
        model(SERVER, base_url="127.0.0.1:9/v1"),
        '6: `models.m.base_url` is "127.0.0.1:9/v1"',
        "an address like http://",
    ),
    "idle without on-demand": Mistake(
        model(MOCK, idle_unload_s=60),
        "6: `models.m.idle_unload_s` is for models that come and go",
        '"load": "on-demand"',
    ),
    "sleep without on-demand": Mistake(
        model(MOCK, sleep=True),
        "6: `models.m.sleep` is for models that come and go",
        '"load": "on-demand"',
    ),
    "sleep of an engine that has none": Mistake(
        model(TRT, load="on-demand", sleep=True),
        "7: `models.m.sleep` is for engines that can sleep",
        "`cuda-trt` has no sleep mode",
    ),
    "lengths beyond the whole": Mistake(
        model(MOCK, max_model_len=100, max_input_len=80, max_output_len=40),
        "6: `models.m.max_model_len` is 100, less than",
        "(120)",
    ),
    "an answer beyond the longest": Mistake(
        model(MOCK, max_output_len=10, sampling={"max_tokens": 20}),
        "3: `models.m`: `sampling.max_tokens` (20) is more than `max_output_len` (10)",
        "hint",
    ),
    "a host with a scheme": Mistake(
        {"gateway": {"host": "http://0.0.0.0"}},
        '3: `gateway.host` is "http://0.0.0.0"',
        "an address alone",
    ),
    "a host with a port": Mistake(
        {"gateway": {"host": "0.0.0.0:8080"}}, "3: `gateway.host` is ", "`gateway.port`"
    ),
    "a server's key for another engine": Mistake(
        model(MOCK, api_key_env="KEY"),
        "6: `models.m.api_key_env` is for the `openai` engine only",
        '"mock"',
    ),
    "adapters of llama.cpp": Mistake(
        model({"engine": "llama-cpp", "model_path": "m.gguf"}, adapters={"a": "b"}),
        "6: `models.m.adapters` is for engines that load adapters",
        "`llama-cpp` loads none",
    ),
    "an adapter's path at a server": Mistake(
        model(SERVER, adapter_path="a/b"),
        "7: `models.m.adapter_path` is for engines that load it",
        "`adapters`",
    ),
    "two models of one name": Mistake(
        {"models": {"a": MOCK, "b": {**MOCK, "aliases": ["a"]}}},
        "2: `models`: `a` is a name of both `a` and `b`",
        "a name has one model",
    ),
    "one port for both": Mistake(
        {"gateway": {"port": 8080, "admin_port": 8080}},
        "2: `gateway`: `admin_port` must not be `port`",
        "hint",
    ),
    "an argument that the scripted engine has not": Mistake(
        model(MOCK, engine_args={"tokns_per_s": 3}),
        "7: `models.m.engine_args.tokns_per_s`: the mock engine has no such argument",
        "did you mean `tokens_per_s`?",
    ),
    "an argument of another engine": Mistake(
        model(SERVER, engine_args={"max_num_seqs": 3}),
        "8: `models.m.engine_args.max_num_seqs`: the openai engine has no such argument",
        "remove it",
    ),
    # Spelling.
    "an engine that is spelt wrong": Mistake(
        model(MOCK, engine="vlm"), '4: `models.m.engine` is "vlm"', "one of `vllm`, "
    ),
    "an engine with a capital": Mistake(
        model(MOCK, engine="vLLM"), '4: `models.m.engine` is "vLLM"', "one of `vllm`, "
    ),
    "a section that is spelt wrong": Mistake(
        {"gatway": {"port": 1}}, "2: unknown key `gatway`", "did you mean `gateway`?"
    ),
    "a key that is spelt wrong": Mistake(
        model(MOCK, max_batchsize=4),
        "6: unknown key `models.m.max_batchsize`",
        "did you mean `max_batch_size`?",
    ),
    "a key of a section that is spelt wrong": Mistake(
        {"limits": {"max_bodybytes": 4096}},
        "3: unknown key `limits.max_bodybytes`",
        "did you mean `max_body_bytes`?",
    ),
    "a key in the wrong place": Mistake(
        {"port": 8080}, "2: unknown key `port`", "./ew config reference"
    ),
    "a sampling setting that is spelt wrong": Mistake(
        model(MOCK, sampling={"temprature": 1}),
        "7: unknown key `models.m.sampling.temprature`",
        "did you mean `temperature`?",
    ),
    "a model without a path": Mistake(
        {"models": {"m": {"engine": "mock"}}},
        "3: `models.m.model_path` is missing",
        "it must be a text",
    ),
    "a variable that no shell can have": Mistake(
        model(MOCK, pass_env=["MY KEY"]),
        '6: `models.m.pass_env.0` is "MY KEY"',
        "a variable's name",
    ),
    "a name that no URL can have": Mistake(
        {"models": {"my model": MOCK}}, "3: `models.my model` is no name for a model", "letters"
    ),
    # Types, units and bounds.
    "a number as text": Mistake(
        {"gateway": {"port": "eighty"}}, '3: `gateway.port` is "eighty"', "a whole number from 0"
    ),
    "a port out of range": Mistake(
        {"gateway": {"port": 70000}}, "3: `gateway.port` is 70000", "a whole number from 0 to 65535"
    ),
    "a negative number": Mistake(
        {"limits": {"max_waiting": -1}}, "3: `limits.max_waiting` is -1", "at least 1"
    ),
    "seconds with a unit": Mistake(
        model(MOCK, load="on-demand", idle_unload_s="10m"),
        '7: `models.m.idle_unload_s` is "10m"',
        "a number above 0",
    ),
    "bytes with a unit": Mistake(
        {"limits": {"max_body_bytes": "1MiB"}},
        '3: `limits.max_body_bytes` is "1MiB"',
        "a whole number, at least 1024",
    ),
    "percent for a fraction": Mistake(
        model(VLLM, gpu_memory_utilization=90),
        "6: `models.m.gpu_memory_utilization` is 90",
        "a number above 0, at most 1",
    ),
    "yes for true": Mistake(
        model(MOCK, pinned="certainly"), '6: `models.m.pinned` is "certainly"', "true or false"
    ),
    "one command line as text": Mistake(
        model(STARTED, command="vllm serve"),
        '6: `models.m.command` is "vllm serve"',
        "a list, each item a text",
    ),
    "one alias as text": Mistake(
        model(MOCK, aliases="other"), '6: `models.m.aliases` is "other"', "a list, each item"
    ),
    "a list of models": Mistake(
        {"models": [{"id": "m", **MOCK}]}, "2: `models` is [", "an object, as in {...}"
    ),
    "no batch": Mistake(
        model(MOCK, max_batch_size=0), "6: `models.m.max_batch_size` is 0", "from 1 to 65536"
    ),
    "half a replica": Mistake(
        model(MOCK, replicas=1.5), "6: `models.m.replicas` is 1.5", "a whole number from 1"
    ),
    "a type of numbers that there is not": Mistake(
        model(MOCK, dtype="fp16"), '6: `models.m.dtype` is "fp16"', "`float16`"
    ),
    "too hot": Mistake(
        model(MOCK, sampling={"temperature": 9}),
        "7: `models.m.sampling.temperature` is 9",
        "from 0",
    ),
    "nothing where something must be": Mistake(
        {"gateway": {"port": None}}, "3: `gateway.port` is null", "a whole number from 0"
    ),
    "no address of a mirror": Mistake(
        {"hub": {"endpoint": "hf-mirror.com"}},
        '3: `hub.endpoint` is "hf-mirror.com"',
        "an address like https://host",
    ),
    # The file itself.
    "a key given twice": Mistake(
        '{"gateway": {"port": 1,\n "port": 2}}', "2: `gateway.port` is given twice", "hint"
    ),
    "a model given twice": Mistake(
        '{"models": {\n"m": {"engine": "mock", "model_path": "x"},\n"m": {}}}',
        "3: `models.m` is given twice",
        "hint",
    ),
    "a comma that is missing": Mistake(
        '{"gateway": {"port": 1}\n "redis": {}}',
        "2: not valid JSON: expecting ',' delimiter",
        "hint",
    ),
    "a bracket that is missing": Mistake('{"models": {', "1: not valid JSON", "hint"),
    "quotes of another kind": Mistake("{'models': {}}", "1: not valid JSON", "double quotes"),
    "an empty file": Mistake("", "1: not valid JSON: expecting value", "hint"),
    "YAML": Mistake("models:\n  m:\n", "1: not valid JSON", "hint"),
    "a list": Mistake("[]", "1: expected an object, as in {...}", "hint"),
    # Variables.
    "a variable out of range": Mistake(
        {}, 'EW_GATEWAY__PORT: `gateway.port` is "99999"', "to 65535", {"EW_GATEWAY__PORT": "99999"}
    ),
    "a variable for a key that is not there": Mistake(
        {},
        "EW_GATEWAY__PROT: unknown key `gateway.prot`",
        "did you mean `port`?",
        {"EW_GATEWAY__PROT": "1"},
    ),
    "a variable for a section that is not there": Mistake(
        {},
        "EW_GATWAY__PORT: unknown section `gatway`",
        "did you mean `gateway`?",
        {"EW_GATWAY__PORT": "1"},
    ),
    "a variable that is no JSON": Mistake(
        {}, "EW_MODELS: not valid JSON", "hint", {"EW_MODELS": "{m: 1}"}
    ),
    "a level that there is not": Mistake(
        {}, 'EW_LOG_LEVEL is "loud"', "debug, info", {"EW_LOG_LEVEL": "loud"}
    ),
}


class Project:
    """Make the things that the configurations name."""

    def __init__(self, directory: Path) -> None:
        self.home = directory
        for name in ("models/good/config.json", "adapters/good/adapter_config.json", "bin/plain"):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).touch()
        (directory / "mine").mkdir()
        ours = ("EW_", "HF_", "HTTP_", "HTTPS_", "ALL_", "http", "all_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.environment = {**kept, "HOME": str(directory), "EW_HOME": str(directory)}

    def check(self, name: str, config: Any, *options: str, **variables: str) -> Outcome:
        """The outcome of `./ew config check` of one configuration."""
        (outcome,) = run([self.order(name, config, *options, **variables)], self.environment)
        return outcome

    def order(self, name: str, config: Any, *options: str, **variables: str) -> Order:
        file = self.file(name)
        file.parent.mkdir(exist_ok=True)
        file.write_text(config if isinstance(config, str) else json.dumps(config, indent=1))
        return Order(["config", "check", *options, str(file)], variables)

    def file(self, name: str) -> Path:
        return self.home / "configurations" / f"{name.replace(' ', '-').lower()}.json"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def outcomes(project: Project) -> dict[str, Outcome]:
    orders = [
        project.order(name, mistake.config, **mistake.variables)
        for name, mistake in MISTAKES.items()
    ]
    return dict(zip(MISTAKES, run(orders, project.environment), strict=True))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name: str, project: Project, outcomes: dict[str, Outcome]) -> None:
    mistake, (code, out, err) = MISTAKES[name], outcomes[name]
    home = str(project.home)
    assert (code, out) == (1, ""), err
    error, hint = err.splitlines()
    place = f"{project.file(name)}:" if mistake.line[0].isdigit() else ""
    assert error.startswith(f"error: {place}{mistake.line.replace('{home}', home)}"), err
    assert hint.startswith("hint: ")
    assert mistake.cure.replace("{home}", home) in err
    assert not [word for word in FOREIGN if word in err]


def test_nothing_is_left_behind(project: Project, outcomes: dict[str, Outcome]) -> None:
    assert outcomes
    there = {path.name for path in project.home.iterdir()}
    assert there == {"models", "adapters", "bin", "mine", "configurations"}


def test_what_is_right_is_good_and_what_may_come_right_is_only_said(project: Project) -> None:
    whole = {
        "models": {
            "a": {**VLLM, "adapters": {"tone": "adapters/good", "far": "some/adapter"}},
            "b": {**VLLM, "model_path": "models/god"},
            "c": {**VLLM, "model_path": "some/repository"},
            "d": {**VLLM, "model_path": "s3://bucket/model"},
            "e": {**SERVER, "base_url": "http://no.such.host.invalid/v1"},
            "f": {**STARTED, "command": ["python3", "-m", "server"], "pass_env": ["NO_SUCH_*"]},
        },
        "hub": {"token_env": "PLACE_OF_THE_TOKEN"},
    }
    code, out, err = project.check("whole", whole, PLACE_OF_THE_TOKEN="hf_x")
    assert (code, out) == (0, ""), err
    near, unset, host, good = err.splitlines()
    assert "`models.b.model_path` is not here" in near
    assert "did you mean `models/good`?" in near
    assert "`models.f.pass_env` names NO_SUCH_*, and no such variable is set" in unset
    assert "`models.e.base_url`: the host `no.such.host.invalid` cannot be" in host
    assert good == f"{project.file('whole')} is good; models: `a`, `b`, `c`, `d`, `e`, `f`"


def test_a_configuration_for_another_host_is_not_held_against_this_one(project: Project) -> None:
    wrong = {**model(VLLM, model_path="/no/such"), "gateway": {"host": "192.0.2.1"}}
    code, _, err = project.check("elsewhere", wrong, "--elsewhere")
    assert (code, len(err.splitlines())) == (0, 1), err


def test_several_mistakes_are_a_line_each_with_its_cure(project: Project) -> None:
    wrong = {"models": {"a": {**VLLM, "model_path": "/no"}, "b": {**TRT, "model_path": "~/mine"}}}
    code, _, err = project.check("two", wrong)
    first, second, hint = err.splitlines()
    assert "two.json:5: `models.a.model_path` does not exist: /no; give a directory" in first
    assert "two.json:9: `models.b.model_path` does not exist: ~/mine; write it in full" in second
    assert (code, hint) == (1, "hint: `./ew config check` looks again, and starts nothing")


def test_a_start_says_the_same_and_starts_nothing(terminal: Terminal) -> None:
    terminal.configure(good={}, bad={"engine": "cpu-vllm", "model_path": "/no/such"})
    checked, started = terminal.run("config", "check"), terminal.run("start")
    assert (started.code, started.err) == (1, checked.err)
    assert f"{terminal.config}:1: `models.bad.model_path` does not exist: /no/such\n" in started.err
    assert not (terminal.state / "status.json").exists()


def test_a_start_warns_of_what_may_be_meant_otherwise(terminal: Terminal) -> None:
    terminal.configure(
        near={"engine": "cpu-vllm", "model_path": "deploy/demo-modle"},
        bad={"engine": "cpu-vllm", "model_path": "/no/such"},
    )
    warning, error, _ = terminal.run("start").err.splitlines()
    assert warning.startswith(f"warning: {terminal.config}:1: `models.near.model_path` is not here")
    assert warning.endswith("did you mean `deploy/demo-model`?")
    assert "`models.bad.model_path` does not exist: /no/such" in error


def test_in_a_terminal_it_looks_the_same(terminal: Terminal) -> None:
    terminal.configure(m={"engine": "vlm"})
    typed = terminal.spawn("config", "check")
    typed.expect('error: .*config.json:1: `models.m.engine` is "vlm"; it must be one of `vllm`')
    typed.expect("hint: `./ew config reference` explains every key")
    assert typed.wait() == 1
