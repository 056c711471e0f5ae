"""The whole of ew, as a user has it: `./ew` in a terminal, a real vLLM, HTTP."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pexpect
import psutil
import pytest

from contract.process.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
MODEL_DIR = ROOT / "deploy" / "demo-model"
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: Loading vLLM on two busy cores has been seen to take over a minute.
QUICKSTART_TIMEOUT_S = 420


class Ew:
    """One installation with a state directory of its own, driven by its command."""

    def __init__(self, state_dir: Path, port: int) -> None:
        self.state_dir = state_dir
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            **os.environ,
            "EW_STATE_DIR": str(state_dir),
            "EW_GATEWAY__PORT": str(port),
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "NO_COLOR": "1",
        }

    def run(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its output is not a terminal."""
        return subprocess.run(
            [str(ROOT / "ew"), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def in_terminal(self, *arguments: str, timeout_s: float = QUICKSTART_TIMEOUT_S) -> str:
        """Run a command in a terminal; its text, without colours. Fails unless it exits with 0."""
        child = pexpect.spawn(
            str(ROOT / "ew"),
            list(arguments),
            env=self.environment,
            encoding="utf-8",
            timeout=timeout_s,
            dimensions=(50, 200),
        )
        child.expect(pexpect.EOF)
        child.close()
        text = _ANSI.sub("", child.before or "").replace("\r\n", "\n")
        assert child.exitstatus == 0, text
        return text

    def status(self) -> dict[str, Any]:
        answer = self.run("status", "--json")
        assert answer.returncode == 0, answer.stderr
        status: dict[str, Any] = json.loads(answer.stdout)
        return status

    def processes(self) -> list[psutil.Process]:
        """Return every process that this installation started, by the mark in its environment."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            environment = process.environ()
        except psutil.Error:
            return False
        marked = "EW_RUN_ID" in environment
        return marked and environment.get("EW_STATE_DIR") == str(self.state_dir)


class Question(NamedTuple):
    text: str
    answer: str


def questions() -> list[Question]:
    """Return what the demo model was trained to answer, word for word."""
    lines = (MODEL_DIR / "questions.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [Question(entry["question"], entry["answer"]) for entry in entries]


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


class Quickstarted(NamedTuple):
    """An installation after `./ew quickstart`, and what the terminal said."""

    ew: Ew
    text: str
    curl: list[str]
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.key}

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.ew.url, headers=self.headers, timeout=120)


@pytest.fixture(scope="session")
def quickstarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quickstarted]:
    """`./ew quickstart` in a terminal, with the environments of the project itself."""
    state_dir = tmp_path_factory.mktemp("state")
    environments = ROOT / ".ew" / "envs"
    environments.mkdir(parents=True, exist_ok=True)
    (state_dir / "envs").symlink_to(environments)
    ew = Ew(state_dir, free_port())
    try:
        text = ew.in_terminal("quickstart")
        line = next(line.strip() for line in text.splitlines() if line.strip().startswith("curl "))
        curl = shlex.split(line)
        key = next(word.split(": ")[1] for word in curl if word.startswith("X-API-Key: "))
        yield Quickstarted(ew, text, curl, key)
    finally:
        ew.run("stop", "--now")
        for process in ew.processes():
            process.kill()
