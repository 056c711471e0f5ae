"""Two hosts of one ew on this machine: `killed`, which has the Valkey, and `kept`, which reaches it
through a proxy. Both have a gateway and workers of the same model."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[3]
#: Slow, so that many streams cost little.
TOKENS_PER_S: Final = 4
#: As supervisors say it of an end that no signal from outside was.
_CRASHED: Final = "exited with code"
_STOPS_WITHIN_S: Final = 60.0


class Host:
    """An installation with a state directory of its own, driven by its command."""

    def __init__(self, directory: Path, name: str, redis_url: str = "") -> None:
        self.name = name
        self.state = directory / name
        self.port = _free_port()
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EW_")},
            "EW_STATE_DIR": str(self.state),
            "EW_CONFIG": str(directory / "config.json"),
            "EW_HOST_NAME": name,
            "EW_GATEWAY__PORT": str(self.port),
            "NO_COLOR": "1",
        }
        if redis_url:
            self._environment["EW_REDIS__URL"] = redis_url

    async def ew(self, *words: str) -> str:
        """Run a command. Answers what it prints. Raises `RuntimeError` if it fails."""
        process = await asyncio.create_subprocess_exec(
            str(ROOT / "ew"),
            *words,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{self.name}: ew {' '.join(words)}: {error.decode()[-2000:]}")
        return out.decode()

    def status(self) -> dict[str, Any]:
        """Return what its supervisor wrote last."""
        found: dict[str, Any] = json.loads((self.state / "status.json").read_bytes())
        return found

    def pids(self) -> dict[str, int]:
        """Return its processes that live and are ready, by what they are: `supervisor`, `gateway`,
        `gateway process N` (a gateway of one process is its own), `worker SLOT`, `valkey`."""
        status = self.status()
        found = {"supervisor": status["supervisor"]["pid"]}
        if (gateway := status["gateway"]) and gateway["state"] == "ready":
            found["gateway"] = gateway["pid"]
            found |= {f"gateway process {n}": pid for n, pid in enumerate(gateway["processes"])}
        if (redis := status["redis"])["embedded"] and redis["state"] == "ready":
            found["valkey"] = redis["pid"]
        for model in status["models"]:
            for each in model["workers"]:
                if each["state"] == "ready":
                    found[f"worker {each['slot']}"] = each["pid"]
        return {name: pid for name, pid in found.items() if pid and state_of(pid)}

    def crashes(self) -> list[str]:
        """Return what its supervisor has logged of processes that ended by themselves."""
        log = self.state / "logs" / "supervisor.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return [f"{self.name}: {line}" for line in lines if _CRASHED in line]

    def valkey_socket(self) -> Path:
        return self.state / "run" / "valkey.sock"


class Setting:
    """Both hosts, their configuration, and the keys of those who ask."""

    def __init__(self, directory: Path, *, replicas: int, processes: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        model = {
            "engine": "mock",
            "model_path": "none",
            "replicas": replicas,
            "engine_args": {"tokens_per_s": TOKENS_PER_S},
        }
        config = {"models": {"mock": model}, "gateway": {"processes": processes}}
        (directory / "config.json").write_text(json.dumps(config))
        self._directory = directory
        self.killed = Host(directory, "killed")
        self.kept = Host(directory, "kept")
        #: For the streams that are counted, and for clients that leave.
        self.key = self.leavers_key = ""

    async def start_killed(self) -> None:
        await self.killed.ew("start")
        self.key = (await self.killed.ew("keys", "add", "reader")).split()[-1]
        self.leavers_key = (await self.killed.ew("keys", "add", "leaver")).split()[-1]

    async def start_kept(self, redis_url: str) -> None:
        """The second host: the keys are those of the first."""
        self.kept = Host(self._directory, "kept", redis_url)
        self.kept.state.mkdir(mode=0o700)
        shutil.copy2(self.killed.state / "keys.json", self.kept.state / "keys.json")
        await self.kept.ew("start")

    async def counted_tokens(self) -> int:
        """Return how many tokens of answers ew has counted for the key of the readers."""
        usage = json.loads(await self.killed.ew("usage", "--json"))["usage"]
        return sum(each["completion_tokens"] for each in usage if each["name"] == "reader")

    async def stop(self) -> None:
        for host in (self.kept, self.killed):
            if host.state.is_dir():
                for pid in _pids_if_any(host).values():
                    _signal(pid, signal.SIGCONT)
                await asyncio.wait_for(host.ew("stop", "--now"), _STOPS_WITHIN_S)


def state_of(pid: int) -> str:
    """Return the state of a process as in `/proc` (`S`, `R`, `T`, ...); empty if it has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""
    return "" if state in "ZX" else state


def _pids_if_any(host: Host) -> dict[str, int]:
    try:
        return host.pids()
    except (OSError, ValueError, KeyError):
        return {}


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
