"""The hosts that the configuration names: whether they can be found from this one."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from contract.bus.connection.url import hosts_of
from contract.config import Config, GatewayConfig
from orchestrator.config.findings import Finding

#: A resolver that does not answer takes longer than a check may take.
_PATIENCE_S: Final = 3.0
_OURS: Final = "give an address of this host: 127.0.0.1, or 0.0.0.0 for all that it has"


def look_up(config: Config) -> Iterator[Finding]:
    """Yield names that mean no host, and addresses to listen on that are none of this host. All
    names are asked for at once. Blocks for `_PATIENCE_S` at most."""
    named = [*_listeners(config.gateway), *_servers(config)]
    problems = _unresolved({each.host for each in named})
    for each in named:
        problem = problems[each.host] or (each.is_ours and _not_ours(each.host)) or ""
        if problem:
            message = f"`{'.'.join(each.keys)}`: the host `{each.host}` {problem}"
            fix = _OURS if each.is_ours else "is it spelt right, and is the network up?"
            yield Finding(each.keys, message, fix, each.is_needed)


class _Named(NamedTuple):
    """A host, where it is named, whether nothing starts without it, and whether it is this one."""

    host: str
    keys: list[str]
    is_needed: bool = True
    is_ours: bool = False


def _listeners(gateway: GatewayConfig) -> Iterator[_Named]:
    yield _Named(gateway.host, ["gateway", "host"], is_ours=True)
    if gateway.admin_port is not None:
        yield _Named(gateway.admin_host, ["gateway", "admin_host"], is_ours=True)


def _not_ours(host: str) -> str:
    """Return why no process can listen there; empty if one can."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            listener.bind((host, 0))
    except OSError as error:
        return f"cannot be listened on: {error.strerror}"
    return ""


def _servers(config: Config) -> Iterator[_Named]:
    redis, hub = config.redis.url, config.hub.endpoint
    for host in hosts_of(redis) if redis is not None else ():
        yield _Named(host, ["redis", "url"])
    if hub is not None and not _has_proxy(hub):
        yield _Named(urlsplit(hub).hostname or "", ["hub", "endpoint"], is_needed=False)
    for model_id, model in config.models.items():
        url = model.base_url
        if url and not model.command and not _has_proxy(url):
            keys = ["models", model_id, "base_url"]
            yield _Named(urlsplit(url).hostname or "", keys, is_needed=False)


def _has_proxy(url: str) -> bool:
    """Return whether another host resolves the name."""
    parts = urlsplit(url)
    proxies = getproxies()
    return (parts.scheme in proxies or "all" in proxies) and not proxy_bypass(parts.hostname or "")


def _unresolved(hosts: set[str]) -> Mapping[str, str]:
    """Return why each of these names means no host; empty for one that does. Each has a thread
    that nothing waits for: the system's resolver takes no deadline."""
    answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for host in hosts:
        threading.Thread(target=_resolve, args=(host, answers.put), daemon=True).start()
    found: dict[str, str] = {}
    deadline = time.monotonic() + _PATIENCE_S
    with suppress(queue.Empty):
        while len(found) < len(hosts):
            host, problem = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            found[host] = problem
    late = f"could not be looked up within {_PATIENCE_S:g} s"
    return {host: found.get(host, late) for host in hosts}


def _resolve(host: str, answer: Callable[[tuple[str, str]], None]) -> None:
    try:
        socket.getaddrinfo(host, None)
        problem = ""
    except (OSError, UnicodeError):
        problem = "cannot be resolved"
    answer((host, problem))
