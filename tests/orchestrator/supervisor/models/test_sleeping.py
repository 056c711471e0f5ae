"""Models that sleep instead of being unloaded: the real supervisor and workers over scripted GPUs,
where the mock engine gives its memory back as vLLM does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from contract.messages import State
from tests.orchestrator.conftest import Host, is_alive
from tests.orchestrator.gpu_host import GpuHost
from tests.waiting import eventually

#: A small card: what sleeps there has to fit into this host's memory.
CARD = {"uuid": "GPU-a", "total_mib": 8000, "driver_mib": 600}
BIG = 5000
KEPT = 200


@pytest.fixture
def gpus(host: Host) -> Iterator[GpuHost]:
    """`host` cleans up."""
    made = GpuHost(host.directory)
    made.show(CARD)
    yield made
    made.end()


def sleeper(mib: int = BIG, kept: int = KEPT, **settings: Any) -> dict[str, Any]:
    args = {"asleep_mib": kept, **settings.pop("engine_args", {})}
    return {"mib": mib, "load": "on-demand", "sleep": True, "engine_args": args, **settings}


def sleeps(gpus: GpuHost, name: str) -> bool:
    return gpus.worker(name).state is State.SLEEPING and "wakes" in gpus.worker(name).stage


def test_an_idle_model_sleeps_and_wakes_in_its_own_process(gpus: GpuHost) -> None:
    gpus.configure(a=sleeper(idle_unload_s=2, load_s=6, engine_args={"wake_s": 3}))
    assert gpus.start().code == 0
    assert gpus.ask("a").json()["text"] == "0 1 2 "
    eventually(lambda: gpus.worker("a").pid)
    pid = gpus.worker("a").pid
    eventually(lambda: sleeps(gpus, "a"))
    eventually(lambda: [each.reserved_mib for each in gpus.gpu().workers] == [KEPT])
    assert gpus.gpu().used_mib == 600 + KEPT
    assert "sleeping" in gpus.run("status").out
    assert gpus.ask("a").json()["text"] == "0 1 2 "
    assert gpus.worker("a").pid == pid
    eventually(lambda: gpus.gpu().used_mib == 600 + BIG)
    eventually(lambda: sleeps(gpus, "a"))
    etas = [data["etaS"] for name, data in gpus.stream("a") if name == "status"]
    # To wake takes three seconds, to load took six.
    assert any(eta is not None and 0 < eta < 5 for eta in etas), etas


def test_what_the_host_has_no_memory_for_is_unloaded(gpus: GpuHost) -> None:
    host_mib = psutil.virtual_memory().total // 2**20
    gpus.show(CARD | {"total_mib": 2 * host_mib})
    gpus.configure(a=sleeper(host_mib))
    assert gpus.start().code == 0
    assert gpus.run("load", "a").code == 0
    eventually(lambda: gpus.gpu().used_mib == 600 + host_mib)
    assert gpus.run("unload", "a").code == 0
    assert (gpus.worker("a").pid, gpus.worker("a").state) == (None, State.STOPPED)
    assert "a cannot sleep: the host lacks" in (gpus.terminal.state / "daemon.log").read_text()


def test_by_hand_it_sleeps_then_leaves_and_load_brings_it_back_from_both(gpus: GpuHost) -> None:
    gpus.configure(a=sleeper())
    assert gpus.start().code == 0
    assert gpus.run("load", "a").code == 0
    pid = gpus.worker("a").pid
    assert gpus.run("unload", "a").code == 0
    eventually(lambda: sleeps(gpus, "a"))
    assert gpus.run("start").code == 0
    assert sleeps(gpus, "a")
    assert gpus.run("load", "a").code == 0
    assert (gpus.worker("a").pid, gpus.worker("a").state) == (pid, State.READY)
    assert gpus.run("unload", "a").code == 0
    assert gpus.run("unload", "a").code == 0
    assert (gpus.worker("a").pid, gpus.worker("a").state) == (None, State.STOPPED)
    assert gpus.run("load", "a").code == 0
    assert gpus.worker("a").pid not in (None, pid)


def test_a_killed_sleeper_is_loaded_anew_and_a_stopped_one_leaves_nothing(gpus: GpuHost) -> None:
    gpus.configure(a=sleeper())
    assert gpus.start().code == 0
    assert gpus.run("load", "a").code == 0
    assert gpus.run("unload", "a").code == 0
    eventually(lambda: sleeps(gpus, "a"))
    pid = gpus.worker("a").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: gpus.worker("a").pid is None)
    eventually(lambda: gpus.gpu().used_mib == 600 and not gpus.gpu().workers)
    assert gpus.ask("a").json()["text"] == "0 1 2 "
    assert gpus.run("load", "a").code == 0
    assert gpus.run("unload", "a").code == 0
    eventually(lambda: sleeps(gpus, "a"))
    pid = gpus.worker("a").pid
    assert gpus.run("stop").code == 0
    assert pid is not None and not is_alive(pid)


def test_a_successor_of_the_supervisor_lets_it_sleep_and_wakes_it(
    gpus: GpuHost, host: Host
) -> None:
    gpus.configure(a=sleeper())
    assert gpus.start().code == 0
    assert gpus.run("load", "a").code == 0
    assert gpus.run("unload", "a").code == 0
    eventually(lambda: sleeps(gpus, "a") and gpus.gpu().used_mib == 600 + KEPT)
    pid, former = gpus.worker("a").pid, gpus.supervisor_pid()
    host.kill_supervisor()
    gpus.supervise()
    eventually(lambda: gpus.supervisor_pid() != former and sleeps(gpus, "a"))
    assert gpus.ask("a").json()["text"] == "0 1 2 "
    assert gpus.worker("a").pid == pid
    eventually(lambda: gpus.gpu().used_mib == 600 + BIG)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"load": "always"}, "is for models that come and go"),
        ({"engine": "openai", "base_url": "http://127.0.0.1:9/v1"}, "`openai` has no sleep mode"),
    ],
)
def test_who_cannot_sleep_is_told_at_the_start(
    gpus: GpuHost, settings: dict[str, Any], why: str
) -> None:
    gpus.configure(a={"load": "on-demand", "sleep": True, **settings})
    start = gpus.start()
    assert start.code == 1
    assert why in start.err
