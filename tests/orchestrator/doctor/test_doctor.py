"""`./ew doctor` finds what is wrong, says what to do, and says so in its exit code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from contract.paths import run_dir
from tests.orchestrator.installation import Installation
from tests.waiting import eventually


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


@contextmanager
def upstream(status: int) -> Iterator[str]:
    """The URL of a server that answers everything with a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/v1/models" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def findings(ew: Installation) -> dict[str, list[dict[str, Any]]]:
    parsed: dict[str, list[dict[str, Any]]] = json.loads(ew.outcome("doctor", "--json")[1])
    return parsed


def test_a_healthy_installation_has_nothing_to_mend(ew: Installation) -> None:
    ew.write_config({"m": {"engine": "mock", "model_path": "."}})
    ew.environment["EW_GATEWAY__PORT"] = "0"
    said = findings(ew)
    assert not [check for part in said.values() for check in part if check["is_fatal"]]


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


def test_orphans_of_this_project_are_named_and_those_of_others_are_not(
    ew: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EW_STATE_DIR", str(ew.state))
    with marked_process(run_dir()) as ours, marked_process(tmp_path) as theirs:

        def is_named() -> bool:
            named = {check["what"]: check for check in findings(ew)["processes"]}
            assert f"pid {theirs}" not in named
            check = named.get(f"pid {ours}")
            return check is not None and check["is_fatal"] and f"kill {ours}" in check["fix"]

        eventually(is_named, 30)
        assert findings(ew)["processes"][-1]["seen"] == "1 processes"


def test_a_full_disk_is_named(ew: Installation, small_disk: Path) -> None:
    ew.environment["EW_STATE_DIR"] = str(small_disk / "state")
    ew.environment["TMPDIR"] = str(small_disk)
    ew.environment["HF_HOME"] = str(small_disk / "cache")
    fatal = {check["what"]: check for check in findings(ew)["storage"] if check["is_fatal"]}
    assert set(fatal) == {"state", "logs", "temporary files", "model cache"}
    assert "the disk is full" in fatal["state"]["fix"]
    assert "EW_STATE_DIR" in fatal["state"]["fix"]
    assert "HF_HOME" in fatal["model cache"]["fix"]


def test_what_others_may_change_or_look_at_is_named(ew: Installation) -> None:
    ew.run("keys", "add")
    ew.state.chmod(0o777)
    said = ew.fail("doctor")
    assert f"{ew.state} can be changed by others (777)" in said
    assert f"`chmod 700 {ew.state}`" in said
    ew.state.chmod(0o755)
    (mind,) = (check for check in findings(ew)["storage"] if check["what"] == "mode")
    assert (mind["seen"], mind["is_fatal"]) == (
        f"{ew.state} can be looked at by others (755)",
        False,
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_state_directory_of_somebody_else_is_named(ew: Installation) -> None:
    ew.state.mkdir()
    os.chown(ew.state, 12345, 12345)
    assert f"{ew.state} belongs to user 12345" in ew.fail("doctor")


def test_what_models_name_and_is_not_there_is_named(ew: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    there = {"engine": "openai", "model_path": "x"}
    ew.write_config(
        {
            "gone": {
                **there,
                "base_url": f"http://127.0.0.1:{port}",
                "adapters": {"tone": "its:tone"},
            },
            "unset": {**there, "base_url": "http://127.0.0.1:1", "api_key_env": "NOBODYS_KEY"},
            "missing": {**there, "command": ["no-such-server", "--port", "{port}"]},
            "lost": {"engine": "cpu-vllm", "model_path": "models/lost", "adapters": {"a": "/no/a"}},
        }
    )
    said = ew.fail("doctor")
    assert f"http://127.0.0.1:{port} does not answer" in said
    assert "`models.unset.api_key_env` is the variable NOBODYS_KEY, which is not set" in said
    assert "`export NOBODYS_KEY=...`" in said
    assert "`models.missing.command` needs the program `no-such-server`" in said
    assert "`models.lost.adapters.a` does not exist: /no/a" in said
    assert "http://127.0.0.1:1 does not answer" not in said
    assert "its:tone" not in said, "to a server, adapters are names"


def test_a_server_that_answers_and_one_that_wants_another_key(ew: Installation) -> None:
    with upstream(200) as good, upstream(401) as closed:
        models = {"good": good, "closed": closed}
        ew.write_config(
            {
                name: {"engine": "openai", "model_path": "x", "base_url": url}
                for name, url in models.items()
            }
        )
        said = ew.fail("doctor")
    assert f"{good} answers" in said
    assert f"{closed} refuses the key (401)" in said
    assert "name its key with `api_key_env`" in said


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
