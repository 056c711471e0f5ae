"""The `ew` command as a person or a script runs it, with a state directory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect

from contract.paths import ROOT

COMMAND = [sys.executable, "-P", "-m", "orchestrator"]


class Terminal:
    """Runs commands over one configuration file."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.config = directory / "config.json"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EW_")},
            "EW_STATE_DIR": str(self.state),
            "EW_CONFIG": str(self.config),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
        }

    def configure(self, **models: dict[str, Any]) -> None:
        """Write the configuration: mock models, and a gateway on a port that is free."""
        whole = {
            model_id: {"engine": "mock", "model_path": "none", **model}
            for model_id, model in models.items()
        }
        gateway = {"port": 0, "processes": 1, "drain_timeout_s": 5}
        self.config.write_text(json.dumps({"models": whole, "gateway": gateway}))

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> Result:
        """Run a command to its end, without a terminal."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=60,
            cwd=self.config.parent,
            env=self.environment | environment,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def spawn(self, *arguments: str) -> pexpect.spawn[str]:
        """Run a command in a terminal of 80 columns."""
        return pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], *arguments],
            env=self.environment | {"TERM": "xterm"},
            cwd=str(self.config.parent),
            encoding="utf-8",
            timeout=30,
            dimensions=(40, 80),
        )


class Result:
    """How a command ended, and what it wrote."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"
