"""A running ew for the clients, and what they say of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from contract.paths import ROOT
from contract.process.ports import free_port
from tests.clients.environments import CannotInstall, node, python
from tests.running_ew import Ew

#: A client's result for each ability, by its name.
Said = dict[str, Any]


class Site(NamedTuple):
    """Where ew serves `demo` by vLLM, and `vectors`."""

    url: str
    key: str

    def ask(self, command: list[str], cwd: Path, home: Path) -> Said:
        """Have a client try its abilities."""
        environment = {
            **os.environ,
            "EW_URL": self.url,
            "EW_KEY": self.key,
            "HOME": str(home),
            "LLM_USER_PATH": str(home),
        }
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        said: Said = json.loads(done.stdout.splitlines()[-1])
        return said


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """ew as it is configured here, and a model of vectors beside it."""
    folder = tmp_path_factory.mktemp("clients")
    config = json.loads((ROOT / "deploy" / "config.json").read_text())
    config.pop("$schema")
    config["models"]["demo"]["model_path"] = str(ROOT / "deploy" / "demo-model")
    config["models"]["vectors"] = {"engine": "mock", "model_path": "none"}
    (folder / "config.json").write_text(json.dumps(config))
    state = folder / "state"
    state.mkdir()
    (state / "envs").symlink_to(ROOT / ".ew" / "envs")
    ew = Ew(state, free_port())
    ew.environment |= {"EW_CONFIG": str(folder / "config.json")}
    try:
        started = ew.run("start", timeout_s=420)
        assert started.returncode == 0, started.stderr
        yield Site(ew.url, ew.run("keys", "add").stdout.strip())
    finally:
        ew.run("stop", "--now")


@pytest.fixture(scope="session")
def said(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Said]:
    """Return the results of a client's abilities; each client is started once."""
    known: dict[tuple[str, str], Said] = {}

    def ask(language: str, client: str) -> Said:
        asked = language, client
        if asked not in known:
            home = tmp_path_factory.mktemp(client)
            if language == "node":
                folder = _or_skip(node)
                known[asked] = site.ask(["node", f"use_{client}.mjs"], folder, home)
            else:
                folder = Path(__file__).parent / "python"
                program = str(_or_skip(python))
                known[asked] = site.ask([program, f"use_{client}.py"], folder, home)
        return known[asked]

    return ask


def _or_skip(make: Callable[[], Path]) -> Path:
    try:
        return make()
    except CannotInstall as error:
        pytest.skip(str(error))
