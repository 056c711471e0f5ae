"""An ew of the script's own: a state directory, a Python, a configuration, and its commands."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from results import Failure

ROOT = Path(__file__).resolve().parents[3]
STANDIN = ROOT / "tests" / "standins" / "pynvml"
ENV = "acceptance"


class Installation:
    """Use it as a context manager: at its end nothing runs any more, and the logs are in `logs`.

    `cards` are those of a scripted NVIDIA driver, which then takes the place of the real one.
    """

    def __init__(self, logs: Path, cards: list[dict[str, Any]] | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ew-acc-"))
        self.logs = logs
        self.state = self.directory / "state"
        self.scene = self.directory / "scene.json" if cards else None
        if self.scene is not None:
            self.scene.write_text(json.dumps({"cards": cards}))
            os.environ["PYNVML_SCENE"] = str(self.scene)
        self.python = self._make_python()
        self.key = ""
        self._address = ""
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Installation:
        self._write_stamp()
        self.key = self.ew("keys", "add", "--name", "acceptance").stdout.strip()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ew("stop", "--now", timeout_s=90, may_fail=True)
        if self._daemon is not None:
            self._end_daemon(self._daemon)
        self._keep_traces()
        shutil.rmtree(self.directory, ignore_errors=True)

    def configure(self, models: dict[str, dict[str, Any]]) -> None:
        """Write the configuration: these models, patient limits, a port of its own."""
        limits = {
            "queue_timeout_s": 280,
            "first_token_timeout_s": 280,
            "total_timeout_s": 300,
            "max_body_bytes": 8_000_000,
        }
        content = {
            "models": models,
            "gateway": {"port": 0, "processes": 1},
            "limits": limits,
        }
        (self.directory / "config.json").write_text(json.dumps(content, indent=1))

    def ew(
        self, *arguments: str, timeout_s: float = 300, may_fail: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a command. Raises `Failure` with what it said if it does not end well."""
        if arguments[0] == "start" and self.scene is not None:
            self._start_daemon()
        done = subprocess.run(
            [self.python, "-P", "-m", "orchestrator", *arguments],
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode and not may_fail:
            said = (done.stderr or done.stdout).strip()[-2000:]
            raise Failure(f"`ew {' '.join(arguments)}` exited with {done.returncode}: {said}")
        if arguments[0] == "start":
            self._address = urlsplit(self.status()["gateway"]["url"]).netloc
        return done

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.ew("status", "--json").stdout))

    def workers(self, model: str) -> list[dict[str, Any]]:
        """Return the workers of a model, as `status` shows them."""
        for each in self.status()["models"]:
            if each["id"] == model:
                return list(each["workers"])
        return []

    def ask(self, model: str, timeout_s: float = 280, **body: Any) -> dict[str, Any]:
        """One completion, after `start`. Raises `Failure` with the error body."""
        content = {"model": model, "prompt": "1234", "max_tokens": 8} | body
        return self.post("/v1/completions", content, timeout_s)

    def post(self, path: str, body: dict[str, Any], timeout_s: float = 280) -> dict[str, Any]:
        """Ask the gateway, after `start`. Raises `Failure` with the error body."""
        connection = http.client.HTTPConnection(self._address, timeout=timeout_s)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        try:
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{body['model']}: {type(error).__name__}: {error}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise Failure(f"{body['model']}: {path}: {answer.status} {text[:500]}")
        return dict(json.loads(text))

    def _keep_traces(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        for path in (self.directory / "config.json", *self.state.glob("*.json")):
            if path.name != "keys.json" and path.exists():
                shutil.copy(path, self.logs / path.name)
        for path in self.state.glob("logs/*"):
            shutil.copy(path, self.logs / path.name)

    def _environment(self) -> dict[str, str]:
        paths = [str(ROOT)] if self.scene is None else [str(STANDIN), str(ROOT)]
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("EW_")},
            "PYTHONPATH": os.pathsep.join(paths),
            "EW_STATE_DIR": str(self.state),
            "EW_CONFIG": str(self.directory / "config.json"),
            "NO_COLOR": "1",
        }

    def _start_daemon(self) -> None:
        """The supervisor has to find the scripted driver, so it is not left to `start`."""
        if self._daemon is not None and self._daemon.poll() is None:
            return
        (self.state / "logs").mkdir(parents=True, exist_ok=True)
        with (self.state / "logs" / "supervisor.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [self.python, "-P", "-m", "orchestrator.supervisor.daemon"],
                cwd=ROOT,
                env=self._environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._has_supervisor, 20, "the supervisor's socket")

    def _has_supervisor(self) -> bool:
        sys.path.insert(0, str(ROOT))
        from contract.paths import run_dir

        before, os.environ["EW_STATE_DIR"] = os.environ.get("EW_STATE_DIR"), str(self.state)
        try:
            return (run_dir() / "control.sock").exists()
        finally:
            if before is None:
                del os.environ["EW_STATE_DIR"]

    def _end_daemon(self, daemon: subprocess.Popen[bytes]) -> None:
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)

    def _make_python(self) -> str:
        """Return a virtual environment that sees what this Python sees, without PYTHONPATH: ew's
        processes take that for their own."""
        home = self.state / "envs" / ENV
        command = [sys.executable, "-m", "venv", "--without-pip", "--system-site-packages"]
        subprocess.run([*command, str(home)], check=True)
        site = next(home.glob("lib/python3*/site-packages"))
        seen = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        seen += [path for path in sys.path if path.endswith("-packages")]
        lines = dict.fromkeys(path for path in seen if path and Path(path) != ROOT)
        (site / "acceptance.pth").write_text("\n".join(lines) + "\n")
        return str(home / "bin" / "python")

    def _write_stamp(self) -> None:
        """Let ew take that environment for one that it has set up itself."""
        from orchestrator.environments.environment import Environment, write_stamp

        write_stamp(
            Environment(
                name=ENV,
                engine="cuda-vllm",
                version="",
                manager="venv",
                versions={},
                device="",
                digest="",
                created_unix_s=time.time(),
                path=self.state / "envs" / ENV,
            )
        )


def wait_for(
    condition: Callable[[], Any], timeout_s: float, what: str, every_s: float = 0.1
) -> Any:
    """Return the first true answer of `condition`. Raises `Failure` when none comes in time."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(every_s)
    return answer
