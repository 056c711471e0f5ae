"""Two hosts with networks of their own over one Valkey: one is cut off, stalls, loses packets, and
comes back. No answer is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from contract.process.ports import free_port
from tests.conftest import valkey_binary
from tests.hosts.namespaces import Cable, NetworkedEw, enter, networks, run, why_not
from tests.hosts.test_several_hosts import counted, running, status
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
_ANSWERS = 8
#: 50 a second: longer than a lease, so that each fault ends within the answer that it is to harm.
_TOKENS = 1500
_PORT = 6379


class Pair(NamedTuple):
    """`front` has the gateway and a worker, `back` a worker."""

    front: NetworkedEw
    back: NetworkedEw
    cables: dict[str, Cable]
    headers: dict[str, str]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    if reason := why_not():
        pytest.skip(reason)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ew-")))
        middle, *names = stack.enter_context(networks("redis", "front", "back"))
        server = ["ip", "netns", "exec", middle, valkey_binary(), "--dir", str(directory)]
        options = f"--port {_PORT} --bind * --protected-mode no --appendonly yes"
        valkey = subprocess.Popen([*server, *options.split(), "--save", ""], stdout=-3)
        stack.callback(valkey.wait)
        stack.callback(valkey.kill)
        hosts, cables = [], {}
        for number, name in enumerate(names):
            short = name.rpartition("-")[2]
            cables[short] = Cable(name, middle, number)
            hosts.append(_host(directory / short, short, name, cables[short].server))
        stack.callback(_end, hosts, cables)
        with ThreadPoolExecutor(2) as pool:
            for started in pool.map(lambda ew: ew.run("start"), hosts):
                assert started.returncode == 0, started.stderr
        key = hosts[0].run("keys", "add", "caller").stdout.strip()
        yield Pair(*hosts, cables, {"X-API-Key": key})


def _host(directory: Path, name: str, namespace: str, server: str) -> NetworkedEw:
    directory.mkdir()
    ew = NetworkedEw(directory / "state", free_port())
    ew.namespace = namespace
    model = {"engine": "mock", "model_path": "none", "engine_args": {"tokens_per_s": 50}}
    config = {
        "models": {"both": model},
        "gateway": {"hosts": ["front"], "processes": 1},
        "redis": {"url": f"redis://{server}:{_PORT}"},
    }
    (directory / "config.json").write_text(json.dumps(config))
    ew.environment |= {"EW_HOST_NAME": name, "EW_CONFIG": str(directory / "config.json")}
    return ew


def _end(hosts: list[NetworkedEw], cables: dict[str, Cable]) -> None:
    for cable in cables.values():
        cable.plug_in()
    for ew in hosts:
        ew.run("stop", "--now")
        for process in ew.processes():
            process.kill()


def _text(pair: Pair) -> str:
    """Return the text of a whole answer, joined from its events."""
    body = {"modelId": "both", "prompt": "count", "maxTokens": _TOKENS}
    url, found = f"{pair.front.url}/api/v1/inference/stream", []
    with httpx.stream("POST", url, json=body, headers=pair.headers, timeout=90) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                assert "code" not in event, event
                found.append(event.get("text", ""))
    return "".join(found)


def _answers_through(pair: Pair, fault: Callable[[], object]) -> None:
    """Have both hosts answer, and a fault come and go in the middle; all answers are whole."""
    inside = partial(enter, pair.front.namespace)
    with ThreadPoolExecutor(_ANSWERS, initializer=inside) as pool:
        # By their leases, not by what a host says that stood still a moment ago.
        eventually(lambda: pool.submit(_workers, pair).result() == 2, 90)
        answers = [
            *_begun(pool, pair, pair.back, pair.front),
            *_begun(pool, pair, pair.front, pair.back),
        ]
        fault()
        assert not any(map(Future.done, answers)), "the fault came too late"
        assert {each.result() for each in answers} == {counted(_TOKENS)}
        eventually(lambda: pool.submit(_workers, pair).result() == 2, 90)
    eventually(lambda: len(_others(pair.front)) == len(_others(pair.back)) == 1, 30)


def _begun(
    pool: ThreadPoolExecutor, pair: Pair, takes: NetworkedEw, other: NetworkedEw
) -> list[Future[str]]:
    """Have one host begin half of the answers, while the worker of the other stands still: whoever
    is first could take all."""
    (worker,) = (each for each in other.processes() if "workers" in each.cmdline())
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        answers = [pool.submit(_text, pair) for _ in range(_ANSWERS // 2)]
        eventually(lambda: running(takes) == _ANSWERS // 2)
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    return answers


def _workers(pair: Pair) -> int:
    """Return how many workers the gateway knows."""
    answer = httpx.get(f"{pair.front.url}/api/v1/models", headers=pair.headers)
    (model,) = answer.json()["models"]
    return int(model["workers"])


def _others(ew: NetworkedEw) -> list[Any]:
    return list(status(ew)["others"])


def test_a_host_of_workers_that_is_cut_off_for_longer_than_its_lease(pair: Pair) -> None:
    def fault() -> None:
        pair.cables["back"].pull()
        eventually(lambda: not _others(pair.front), 40)
        assert "no answer" in pair.back.run("status").stdout
        # The other host has its answers now.
        eventually(lambda: running(pair.front) == _ANSWERS, 40)
        pair.cables["back"].plug_in()

    _answers_through(pair, fault)


def test_a_host_with_the_gateway_that_is_cut_off_for_less_than_its_lease(pair: Pair) -> None:
    def fault() -> None:
        pair.cables["front"].pull()
        # Its own client of Valkey waits for two seconds before it says so.
        eventually(lambda: status(pair.front)["redis"]["state"] != "ready")
        pair.cables["front"].plug_in()

    _answers_through(pair, fault)


def test_a_host_that_stands_still_for_longer_than_its_lease(pair: Pair) -> None:
    def fault() -> None:
        stopped = pair.back.processes()
        for process in stopped:
            os.kill(process.pid, signal.SIGSTOP)
        try:
            eventually(lambda: {process.status() for process in stopped} == {"stopped"})
            eventually(lambda: running(pair.front) == _ANSWERS, 40)
        finally:
            for process in stopped:
                os.kill(process.pid, signal.SIGCONT)

    _answers_through(pair, fault)


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed (Debian: nftables)")
def test_a_host_whose_network_loses_a_tenth_of_the_packets(pair: Pair) -> None:
    cable = pair.cables["back"]

    def fault() -> None:
        cable.lose(10)
        eventually(lambda: cable.lost() > 100, 60)

    try:
        _answers_through(pair, fault)
    finally:
        with suppress(subprocess.CalledProcessError):
            cable.lose_none()


def test_the_networks_are_apart(pair: Pair) -> None:
    """Else none of the above would have happened: the hosts do not reach each other."""
    route = ("ip", "-n", pair.back.namespace, "route", "get", pair.cables["front"].server)
    with pytest.raises(subprocess.CalledProcessError):
        run(*route)
