"""The checks of `./ew doctor`: everything that ew needs on this host, each with the cure."""

from __future__ import annotations

import asyncio
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from redis.exceptions import RedisError

from contract.bus.client import connect
from contract.config import Config
from contract.config.checks.heeded import remarks
from contract.paths import IS_CLONE, config_path, keys_path
from contract.supervision.last_seen import is_supervised
from orchestrator.config import host_checks as surroundings
from orchestrator.config.key_file import KeyFile
from orchestrator.config.selection import read_config
from orchestrator.doctor import collector, processes, storage, upstreams
from orchestrator.environments import Environment, find_environment, list_environments
from orchestrator.environments.declaration import find_engine, find_release
from orchestrator.environments.engine_env import OWN_ENVIRONMENT, environment_of
from orchestrator.environments.environment import list_unfinished
from orchestrator.environments.preflight import Check, preflight
from orchestrator.errors import UserError
from orchestrator.protocol.status import read_status
from orchestrator.system.ports import require_free
from orchestrator.system.redis_trouble import troubles
from orchestrator.system.valkey import check_external, embedded_url, find_server, socket_path

#: The oldest releases of each line without known holes in what ew uses: scripts and blocking reads.
_OLDEST_SAFE: Final = {"Valkey": (9, 1, 2), "Redis": (8, 6, 3)}
#: These lines have the same fixes; the release that got them is for the distributor to say.
_MAINTAINED_VALKEY: Final = ((8, 1), (9, 0))


def check_up() -> Iterator[tuple[str, list[Check]]]:
    """One part of the report after the other, each as soon as it is known. Blocks for seconds."""
    try:
        config = read_config()
    except UserError as error:
        yield "configuration", [Check("file", error.message, error.hint, is_fatal=True)]
    else:
        yield "configuration", [*_models(config), *_named(config), *upstreams.ask(config.models)]
        yield "engines", list(_engines(config))
        yield "queue", list(_redis(config))
        yield "port", [_port(config), _open_files(config)]
        if config.tracing.endpoint is not None:
            yield "traces", [collector.ask(config.tracing.endpoint)]
    yield "environments", list(_environments())
    yield "storage", [*storage.room(), *storage.privacy(), *_keys()]
    yield "processes", [*processes.started(), *processes.failed()]


def _models(config: Config) -> Iterator[Check]:
    yield Check("file", f"{config_path()}, models: {len(config.models)}")
    for model_id, model in config.models.items():
        engine, env = environment_of(model)
        if env == OWN_ENVIRONMENT or find_environment(env):
            yield Check(f"model {model_id}", f"{engine} in `{env}`")
        else:
            fix = f"`./ew setup --engine {engine} --env {env}`"
            yield Check(f"model {model_id}", f"`{env}` is not set up", fix, is_fatal=True)


def _named(config: Config) -> Iterator[Check]:
    """Yield what the configuration names and is not here, or says without effect."""
    for remark in remarks(config):
        yield Check(f"model {remark.keys[1]}", remark.message, f"see {config_path()}")
    for keys, message, fix, is_fatal in surroundings.look(config, config.models):
        what = f"model {keys[1]}" if keys[0] == "models" else keys[0]
        yield Check(what, message, fix, is_fatal)


def _engines(config: Config) -> Iterator[Check]:
    """Yield the preflight of every engine in use, but for what matters only to an installation."""
    used = {environment_of(model) for model in config.models.values()}
    for engine, env in sorted(used):
        if env == OWN_ENVIRONMENT:
            continue
        environment = find_environment(env)
        declared = find_engine(engine)
        known = environment is not None and environment.version in declared.releases
        release = find_release(declared, environment.version if environment and known else None)
        python = environment.python if environment else None
        for check in preflight(declared, release, python=python):
            if check.what != "disk" or environment is None:
                yield check._replace(what=f"{engine}: {check.what}")


def _redis(config: Config) -> Iterator[Check]:
    try:
        if config.redis.url is None:
            yield _server(*_embedded())
            if socket_path().exists():
                yield from asyncio.run(_troubles(embedded_url()))
        else:
            yield _server(*asyncio.run(_external(config.redis.url)))
            yield from asyncio.run(_troubles(config.redis.url))
            for warning in asyncio.run(check_external(config.redis.url)):
                yield Check("durability", warning, "turn on `appendonly` there")
    except UserError as error:
        yield Check("server", error.message, error.hint, is_fatal=True)


def _embedded() -> tuple[str, str]:
    program = find_server()
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"v=([\d.]+)", answer.stdout)
    name = "Valkey" if "valkey" in program.name else "Redis"
    return name, found[1] if found else ""


async def _external(url: str) -> tuple[str, str]:
    db = connect(url, connections=1)
    try:
        info = await db.info("server")
    except (RedisError, OSError) as error:
        raise UserError(f"Redis does not answer: {error}", "check `redis.url`") from None
    finally:
        await db.aclose()
    if "valkey_version" in info:
        return "Valkey", str(info["valkey_version"])
    return "Redis", str(info["redis_version"])


async def _troubles(url: str) -> list[Check]:
    """Return what keeps a server that runs from its work; none if it does not answer."""
    db = connect(url, connections=1)
    try:
        found = troubles(await db.info())
        return [Check("server", each.seen, each.fix, is_fatal=True) for each in found]
    except (RedisError, OSError):
        return []
    finally:
        await db.aclose()


def _server(name: str, version: str) -> Check:
    seen = f"{name} {version}"
    number = tuple(int(part) for part in version.split(".") if part.isdigit())
    is_maintained = name == "Valkey" and number[:2] in _MAINTAINED_VALKEY
    if number >= _OLDEST_SAFE[name]:
        return Check("server", seen)
    oldest = ".".join(map(str, _OLDEST_SAFE[name]))
    if is_maintained:
        return Check("server", seen, f"take its release of August 2026 or later, or {oldest}")
    return Check("server", seen, f"older than {oldest}: known security holes, unless patched")


def _port(config: Config) -> Check:
    where = f"{config.gateway.host} port {config.gateway.port}"
    gateway = read_status().gateway
    if gateway is not None and gateway.pid is not None and is_supervised(read_status()):
        return Check("gateway", f"serves at {gateway.url}")
    try:
        require_free(config.gateway.host, config.gateway.port)
    except UserError as error:
        return Check("gateway", error.message, error.hint, is_fatal=True)
    return Check("gateway", f"{where} is free")


def _open_files(config: Config) -> Check:
    """Return whether the gateway may have as many connections as the configuration says."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = config.gateway.max_connections
    if hard == resource.RLIM_INFINITY or hard > wanted:
        return Check("open files", f"{wanted} connections at most (`gateway.max_connections`)")
    seen = f"the system lets a process open {hard}; `gateway.max_connections` is {wanted}"
    fix = "raise the limit (`ulimit -Hn`, `LimitNOFILE` of systemd), or lower the other"
    return Check("open files", seen, fix)


def _environments() -> Iterator[Check]:
    yield Check("python", f"{OWN_ENVIRONMENT}, as locked" if IS_CLONE else sys.prefix)
    for environment in list_environments():
        seen = f"{environment.engine} {environment.version}, on {environment.device}"
        if environment.is_current():
            yield Check(environment.name, seen)
        else:
            command = f"`./ew setup --engine {environment.engine} --env {environment.name}`"
            yield Check(environment.name, f"{seen}; outdated", f"{command} brings it up to date")
        yield from _startup_code(environment)
    for name in list_unfinished():
        fix = f"`./ew setup` completes it, `./ew env remove {name}` drops it"
        yield Check(name, "unfinished", fix)


def _startup_code(environment: Environment) -> Iterator[Check]:
    """Python runs such a line at every start; an attacker's way to stay. Those that an
    installed package does not own are named."""
    for packages in environment.path.glob("lib/python3*/site-packages"):
        owned = _owned_startup_files(packages)
        for path in packages.glob("*.pth"):
            runs_code = re.search(r"^import[ \t]", path.read_text(errors="replace"), re.MULTILINE)
            if runs_code and path.name not in owned:
                fix = f"look at {path}; `./ew env remove {environment.name}` and set it up again"
                yield Check(environment.name, f"{path.name} runs code", fix, is_fatal=True)


def _owned_startup_files(packages: Path) -> set[str]:
    # uv's own, which keeps tools from installing into the wrong place.
    owned = {"_virtualenv.pth"}
    for record in packages.glob("*.dist-info/RECORD"):
        owned.update(re.findall(r"^([^/,\n]+\.pth),", record.read_text(), re.MULTILINE))
    return owned


def _keys() -> Iterator[Check]:
    try:
        records = KeyFile().records()
        yield Check("API keys", f"{len(records)} in {keys_path()}")
    except UserError as error:
        yield Check("API keys", error.message, error.hint or "see the message", is_fatal=True)
