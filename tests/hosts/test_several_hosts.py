"""Several hosts on one Redis: each runs its part, all are seen from each, and one may be lost."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import psutil

from contract.bus.heartbeats import LEASE_MS
from tests.hosts.conftest import Hosts, make_host
from tests.running_ew import Ew
from tests.waiting import eventually

_ANSWERS = 8
#: At 50 tokens a second, long enough for a lease to end in the middle.
_TOKENS = 400


def status(ew: Ew) -> dict[str, Any]:
    """Return what `./ew status --json` prints while its supervisor lives."""
    document: dict[str, Any] = json.loads((ew.state_dir / "status.json").read_text())
    return document


def states(ew: Ew) -> dict[str, str]:
    """Return the state of each worker that this host has."""
    return {
        worker["slot"]: worker["state"]
        for model in status(ew)["models"]
        for worker in model["workers"]
    }


def texts(hosts: Hosts, model: str, tokens: int) -> list[str]:
    """Ask, and return the text of each event of the whole answer, in order."""
    body = {"modelId": model, "prompt": "count", "maxTokens": tokens}
    url = f"{hosts.front.url}/api/v1/inference/stream"
    found, is_done = [], False
    with httpx.stream("POST", url, json=body, headers=hosts.headers, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                found += [event["text"]] if "text" in event else []
                is_done = is_done or "finishReason" in event
                assert "code" not in event, event
    assert is_done
    return found


def counted(tokens: int) -> str:
    """Return the answer of the mock engine to any prompt."""
    return "".join(f"{number} " for number in range(tokens))


def others_of(ew: Ew) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in status(ew)["others"]}


def test_each_host_runs_its_part_and_sees_the_others(hosts: Hosts) -> None:
    assert states(hosts.front) == {}
    assert status(hosts.gpu_1)["gateway"] is None
    assert states(hosts.gpu_1) == {"both-0": "ready", "comes-0": "stopped"}
    # A host's view of the others is as old as their last beat.
    eventually(lambda: others_of(hosts.front).keys() == {"gpu-1", "gpu-2"})
    served = {"both": "ready", "comes": "stopped"}
    eventually(lambda: others_of(hosts.front)["gpu-2"]["models"] == served)
    assert others_of(hosts.front)["gpu-2"]["gateways"] == 0
    eventually(lambda: status(hosts.gpu_1)["others"][0]["gateways"] == 1)
    eventually(lambda: "both ready, comes stopped" in hosts.gpu_1.run("status").stdout)
    screen = hosts.gpu_1.run("status").stdout
    assert "OTHER HOST" in screen


def test_a_model_on_demand_is_loaded_by_one_host(hosts: Hosts) -> None:
    with ThreadPoolExecutor(_ANSWERS) as pool:
        answers = [pool.submit(texts, hosts, "comes", 20) for _ in range(_ANSWERS)]
        assert {"".join(each.result()) for each in answers} == {counted(20)}
    found = [hosts.gpu_1, hosts.gpu_2]
    eventually(lambda: any(states(ew)["comes-0"] == "ready" for ew in found))
    assert sorted(states(ew)["comes-0"] for ew in found) == ["ready", "stopped"]


def test_a_host_that_is_lost_takes_no_answer_along(hosts: Hosts) -> None:
    """All of it at once, as when its power fails: the other host goes on with each answer after the
    tokens that the client has, and loads what only the lost one had."""
    with_comes, other = hosts.gpu_1, hosts.gpu_2
    if states(with_comes)["comes-0"] != "ready":
        with_comes, other = other, with_comes
    models = ["both", "comes"] * (_ANSWERS // 2)
    with ThreadPoolExecutor(_ANSWERS) as pool:
        answers = [pool.submit(texts, hosts, model, _TOKENS) for model in models]
        eventually(lambda: running(with_comes) >= _ANSWERS // 2)
        lost = running(with_comes)
        kill_all(with_comes)
        assert lost >= _ANSWERS // 2, "the fault came too late"
        assert not any(map(Future.done, answers))
        assert {"".join(each.result()) for each in answers} == {counted(_TOKENS)}
    eventually(lambda: states(other) == {"both-0": "ready", "comes-0": "ready"})
    eventually(lambda: len(status(hosts.front)["others"]) == 1)
    assert with_comes.run("start").returncode == 0
    assert states(with_comes)["both-0"] == "ready"


def test_a_host_that_is_cut_off_loses_its_answers_to_another_and_comes_back(hosts: Hosts) -> None:
    with ThreadPoolExecutor(_ANSWERS) as pool:
        answers = [pool.submit(texts, hosts, "both", _TOKENS) for _ in range(_ANSWERS)]
        eventually(lambda: running(hosts.gpu_2) > 0 and running(hosts.gpu_1) > 0)
        hosts.cut_off(True)
        assert not any(map(Future.done, answers)), "the fault came too late"
        assert {"".join(each.result()) for each in answers} == {counted(_TOKENS)}
    eventually(lambda: others_of(hosts.front).keys() == {"gpu-1"})
    eventually(lambda: "no answer" in hosts.gpu_2.run("status").stdout)
    hosts.cut_off(False)
    eventually(lambda: len(status(hosts.front)["others"]) == 2)
    eventually(lambda: states(hosts.gpu_2)["both-0"] == "ready")
    # The one that was there all the time takes none of these: the other is as good as before.
    assert hosts.gpu_1.run("stop", "both").returncode == 0
    assert "".join(texts(hosts, "both", 5)) == counted(5)
    assert hosts.gpu_1.run("start", "both").returncode == 0


def running(ew: Ew) -> int:
    """Return how many jobs are in the engines of this host."""
    return sum(model["running"] for model in status(ew)["models"])


def kill_all(ew: Ew) -> None:
    """The supervisor first: it would start the others again."""
    found = status(ew)
    workers = [worker["pid"] for model in found["models"] for worker in model["workers"]]
    processes = [psutil.Process(pid) for pid in (found["supervisor"]["pid"], *workers) if pid]
    for process in processes:
        process.kill()
    for process in processes:
        process.wait(5)


def test_two_hosts_of_one_name_are_told_to_change_it(hosts: Hosts) -> None:
    config = hosts.front.environment["EW_CONFIG"]
    twin = make_host(hosts.front.state_dir.parent, "gpu-2", hosts.front.state_dir.parent / config)
    twin.state_dir = hosts.front.state_dir.parent / "twin"
    twin.environment["EW_STATE_DIR"] = str(twin.state_dir)
    try:
        assert twin.run("start", "both").returncode == 0
        problem = eventually(lambda: status(hosts.gpu_2)["host_problem"], LEASE_MS / 1000)
        assert "calls itself `gpu-2`" in problem
        assert "EW_HOST_NAME" in hosts.gpu_2.run("status").stdout
    finally:
        twin.run("stop", "--now")
    eventually(lambda: not status(hosts.gpu_2)["host_problem"], 2 * LEASE_MS / 1000)
