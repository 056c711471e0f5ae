"""Children have the variables that they need, and no secrets of others."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from contract.config import ModelConfig
from contract.paths import ROOT
from orchestrator.gpu.allocator import Allocation
from orchestrator.protocol.specs import GatewaySpec, ReplicaSpec, UnitSpec, ValkeySpec
from orchestrator.supervisor.units.launch import Launcher
from orchestrator.system.child_environment import COMMON, TELEMETRY, engine_variables, inherited
from tests.orchestrator.conftest import Host
from tests.waiting import eventually

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "x",
    "DATABASE_URL": "postgres://:x@host",
    "GITHUB_TOKEN": "x",
    "OPENAI_API_KEY": "x",
    "MISTRAL_API_KEY": "x",
    "EW_API_KEY": "x",
    "EW_REDIS__URL": "redis://:x@host",
}
NEEDED = {
    "HF_TOKEN": "1",
    "HF_ENDPOINT": "2",
    "CUDA_VISIBLE_DEVICES": "3",
    "NCCL_DEBUG": "4",
    "VLLM_ATTENTION_BACKEND": "5",
    "LD_LIBRARY_PATH": "6",
    "https_proxy": "7",
    "NO_PROXY": "8",
    "OMP_NUM_THREADS": "9",
}
SETTINGS = {"EW_REDIS__URL": "redis://:x@host", "EW_LOG_LEVEL": "debug"}
GATEWAY = GatewaySpec(sys.executable, "127.0.0.1", 0, 1.0)


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {**SECRETS, **NEEDED, "PYTHONPATH": "elsewhere"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path))


def environment(wanted: UnitSpec) -> dict[str, str]:
    launcher = Launcher("redis://:secret@host", SETTINGS)
    command = launcher.command(wanted, "name", Allocation({}, {}))
    launcher.claims.close()
    return command.environment


def worker(**model: Any) -> ReplicaSpec:
    spec = {"model_id": "m", "engine": "openai", "env": ".venv", "model": model}
    return ReplicaSpec("m", 0, "openai", ".venv", sys.executable, 1.0, spec)


def test_no_child_has_a_secret_that_is_not_for_it() -> None:
    assert not SECRETS.keys() & environment(ValkeySpec()).keys()
    # The gateway reads the configuration, and so what overrides it.
    assert SECRETS.keys() & environment(GATEWAY).keys() == {"EW_REDIS__URL"}
    assert not SECRETS.keys() & environment(worker()).keys()
    assert not NEEDED.keys() & environment(ValkeySpec()).keys() - {"LD_LIBRARY_PATH"}


def test_a_worker_has_what_its_engine_reads() -> None:
    found = environment(worker())
    assert {name: found.get(name) for name in NEEDED} == NEEDED
    assert found["EW_LOG_LEVEL"] == "debug"
    assert found["PYTHONPATH"] == str(ROOT)


def test_opentelemetrys_variables_are_for_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "OTEL_EXPORTER_OTLP_HEADERS"
    monkeypatch.setenv(name, "authorization=secret")
    assert environment(GATEWAY)[name] == "authorization=secret"
    assert name not in environment(worker())
    assert name not in environment(ValkeySpec())
    assert name in environment(worker(pass_env=["OTEL_*"]))


def test_a_worker_has_the_key_of_its_own_upstream_and_what_its_model_names() -> None:
    found = environment(worker(api_key_env="OPENAI_API_KEY", pass_env=["AWS_*"]))
    assert SECRETS.keys() & found.keys() == {"OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"}


def test_a_model_cannot_name_what_is_ews_own() -> None:
    found = environment(worker(pass_env=["*", "EW_*"]))
    assert not [name for name in found if name.startswith("EW_") and name in SECRETS]


@pytest.mark.parametrize("name", ["*", "A B", "A=B", "", "A*B", "1A"])
def test_what_can_be_no_variable_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="pass_env"):
        ModelConfig(model_path="x", pass_env=(name,))


@pytest.mark.parametrize("wanted", [GATEWAY, worker()], ids=["gateway", "worker"])
def test_what_the_user_has_installed_for_himself_is_not_seen(wanted: UnitSpec) -> None:
    assert environment(wanted)["PYTHONNOUSERSITE"] == "1"


def test_a_running_worker_has_them(host: Host, model: str) -> None:
    host.start(host.worker(model))
    pid = eventually(lambda: host.find_worker(f"{model}-0").pid)
    own = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    names = {entry.partition("=")[0] for entry in own}
    assert not SECRETS.keys() & names
    assert NEEDED.keys() <= names


def test_the_documentation_lists_them_all() -> None:
    text = "".join((ROOT / f"docs/{name}.md").read_text() for name in ("security", "engines"))
    missing = [
        each for each in (*COMMON, *TELEMETRY, *engine_variables()) if f"`{each}`" not in text
    ]
    assert not missing


def test_what_is_listed_is_no_key_of_a_provider() -> None:
    keys = {f"{name}_API_KEY": "x" for name in ("OPENAI", "ANTHROPIC", "MISTRAL", "GROQ", "AZURE")}
    assert (
        inherited(keys | {"REDIS_PASSWORD": "x", "EW_WORKER": json.dumps({})}, engine_variables())
        == {}
    )
    assert "PATH" in inherited(os.environ)
