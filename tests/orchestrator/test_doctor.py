"""`./ew doctor` finds what is wrong, says what to do, and says so in its exit code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.orchestrator.conftest import eventually
from tests.orchestrator.installation import Installation


@pytest.fixture
def ew(tmp_path: Path) -> Installation:
    installation = Installation(tmp_path)
    installation.declare("cpu-vllm")
    return installation


@contextmanager
def marked_process(root: Path) -> Iterator[int]:
    """A process as an engine leaves it behind: it carries the marks of a run that is over."""
    marks = {"EW_RUN_ID": "0123456789abcdef", "EW_RUN_ROOT": str(root)}
    code = "print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **marks},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def findings(ew: Installation) -> dict[str, list[dict[str, Any]]]:
    parsed: dict[str, list[dict[str, Any]]] = json.loads(ew.outcome("doctor", "--json")[1])
    return parsed


def test_a_healthy_installation_has_nothing_to_mend(ew: Installation) -> None:
    ew.write_config({"m": {"engine": "mock", "model_path": "."}})
    ew.environment["EW_GATEWAY__PORT"] = "0"
    said = findings(ew)
    theirs = ("processes",)  # Other tests run beside this one.
    fatal = [
        check for part in said if part not in theirs for check in said[part] if check["is_fatal"]
    ]
    assert not fatal


def test_a_model_without_its_environment_is_named_with_the_command(ew: Installation) -> None:
    ew.write_config({"m": {"engine": "cpu-vllm", "model_path": "."}})
    said = ew.fail("doctor")
    assert "`ew-cpu-vllm` is not set up" in said
    assert "`./ew setup --engine cpu-vllm --env ew-cpu-vllm`" in said


def test_a_broken_configuration_hides_nothing_else(ew: Installation) -> None:
    ew.write_config({"m": {"engine": "cpu-vllm", "model_pth": "."}})
    said = ew.fail("doctor")
    assert "model_pth" in said
    assert "environments" in said


def test_a_port_that_is_taken_is_named(ew: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ew.environment["EW_GATEWAY__PORT"] = str(port)
        said = ew.fail("doctor")
    assert f"port {port} is in use" in said
    assert str(os.getpid()) in said


def test_a_key_file_that_others_can_read_is_named(ew: Installation) -> None:
    ew.run("keys", "add")
    (ew.state / "keys.json").chmod(0o644)
    assert "chmod 600" in ew.fail("doctor")


def test_orphans_of_a_run_that_is_over_are_named(ew: Installation, tmp_path: Path) -> None:
    with marked_process(tmp_path) as pid:

        def is_named() -> bool:
            processes = findings(ew)["processes"]
            return any(
                check["what"] == f"pid {pid}"
                and check["is_fatal"]
                and f"kill {pid}" in check["fix"]
                for check in processes
            )

        eventually(is_named, 30)


def test_a_dead_external_redis_is_named(ew: Installation) -> None:
    ew.environment["EW_REDIS__URL"] = "redis://127.0.0.1:9/0"
    said = ew.fail("doctor")
    assert "Redis does not answer" in said


def test_an_external_server_is_asked_for_its_version(ew: Installation, redis_url: str) -> None:
    ew.environment["EW_REDIS__URL"] = redis_url
    (server, *_) = findings(ew)["queue"]
    assert server["seen"].startswith("Valkey 9.")


def test_unfinished_and_tampered_environments_are_named(ew: Installation) -> None:
    ew.declare("tiny")
    ew.run("setup", "--engine", "tiny", "--env", "tampered")
    (packages,) = ew.env("tampered").glob("lib/*/site-packages")
    (packages / "innocent.pth").write_text("import os; os.getpid()\n")
    ew.env("unfinished").mkdir()
    said = ew.fail("doctor")
    assert "innocent.pth runs code" in said
    assert "`./ew env remove unfinished`" in said
