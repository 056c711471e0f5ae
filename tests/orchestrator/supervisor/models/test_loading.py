"""Models share GPUs, come when they are asked for, and go: the real supervisor, gateway, queue and
workers over scripted GPUs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from contract.messages import State
from orchestrator.protocol.status import read_status
from tests.orchestrator.conftest import Host, is_alive
from tests.orchestrator.gpu_host import CARD, GpuHost
from tests.waiting import eventually

#: Half of the card, roughly: two fit, three do not.
HALF = 36 * 1024


@pytest.fixture
def gpus(host: Host) -> Iterator[GpuHost]:
    """`host` cleans up."""
    made = GpuHost(host.directory)
    yield made
    made.end()


def on_demand(mib: int = HALF, **settings: Any) -> dict[str, Any]:
    return {"mib": mib, "load": "on-demand", **settings}


def test_models_share_a_gpu_each_with_its_own_account(gpus: GpuHost) -> None:
    gpus.configure(a={"mib": HALF}, b={"mib": 20 * 1024})
    start = gpus.start()
    assert start.code == 0, start
    assert gpus.visible_devices("a") == gpus.visible_devices("b") == "GPU-a"
    eventually(lambda: {each.stage for each in gpus.gpu().workers} == {"ready"})
    shares = {each.slot: (each.reserved_mib, each.used_mib) for each in gpus.gpu().workers}
    assert shares == {"a-0": (HALF, HALF), "b-0": (20 * 1024, 20 * 1024)}
    assert gpus.gpu().used_mib == 600 + HALF + 20 * 1024
    text = gpus.run("status").out
    assert f"GPU 0: {HALF / 1024:.1f} GiB of {HALF / 1024:.1f} GiB" in text
    assert max(map(len, text.splitlines())) <= 80
    assert gpus.ask("a").json()["text"] == "0 1 2 "
    figures = gpus.metrics()
    assert 'ew_gpu_memory_bytes{gpu="0"' in figures
    (used,) = re.findall(r'ew_worker_gpu_memory_used_bytes{.*slot="a-0".*} (.+)', figures)
    assert float(used) == HALF * 1024 * 1024


def test_starts_on_one_gpu_come_one_after_the_other(gpus: GpuHost) -> None:
    gpus.configure(a={"mib": 1000, "load_s": 1}, b={"mib": 1000, "load_s": 1})
    overlaps = []
    watch = threading.Event()

    def look() -> None:
        while not watch.wait(0.05):
            workers = [each.workers[0] for each in read_status().models]
            overlaps.append(sum(w.state is State.STARTING and w.pid is not None for w in workers))

    looking = threading.Thread(target=look)
    looking.start()
    start = gpus.start()
    watch.set()
    looking.join()
    assert start.code == 0
    assert max(overlaps) == 1


def test_what_does_not_fit_is_refused_in_numbers_and_the_rest_runs(gpus: GpuHost) -> None:
    with subprocess.Popen(["sleep", "300"]) as stranger:
        gpus.show(CARD | {"processes": [{"pid": stranger.pid, "mib": 5 * 1024}]})
        gpus.configure(a={"mib": HALF}, big={"mib": 60 * 1024})
        start = gpus.start("--model", "big")
        assert start.code == 0
        start = gpus.start()
        assert start.code == 1
        assert "`a` needs 36.0 GiB on one GPU" in start.err
        assert "big-0 60.0 GiB" in start.err
        assert f"sleep 300 (pid {stranger.pid}, user" in start.err
        assert "`./ew estimate` shows every part" in start.err
        assert gpus.worker("a").state is State.FAILED
        assert gpus.is_loaded("big")
        assert "not ours: 5.0 GiB, sleep 300" in gpus.run("status").out
        gpus.run("stop")
        assert stranger.poll() is None
        stranger.kill()


def test_a_model_on_demand_loads_at_its_first_request_and_goes_when_idle(gpus: GpuHost) -> None:
    gpus.configure(a=on_demand(load_s=3, idle_unload_s=2))
    start = gpus.start()
    assert start.code == 0, start
    assert "a-0 loads at its first request" in start.err
    assert (gpus.worker("a").state, gpus.worker("a").pid) == (State.STOPPED, None)
    assert gpus.gpu().used_mib == 600
    events = gpus.stream("a")
    names = [name for name, _ in events]
    assert names[0] == "status" and names[-1] == "done"
    assert "".join(data["text"] for name, data in events if name == "text") == "0 1 2 "
    assert all(data["position"] == 0 for name, data in events if name == "status")
    assert any("loading" in data["stage"] for name, data in events if name == "status")
    eventually(lambda: gpus.gpu().used_mib == 600 + HALF)
    eventually(lambda: gpus.worker("a").pid is None)
    eventually(lambda: gpus.gpu().used_mib == 600 and not gpus.gpu().workers)
    etas = [data["etaS"] for name, data in gpus.stream("a") if name == "status"]
    assert any(eta is not None and 0 < eta < 10 for eta in etas), etas


def test_an_idle_model_makes_room(gpus: GpuHost) -> None:
    gpus.configure(always={"mib": 10 * 1024}, a=on_demand(50 * 1024), b=on_demand(50 * 1024))
    assert gpus.start().code == 0
    for name, other in (("a", "b"), ("b", "a")):
        assert gpus.ask(name).json()["text"] == "0 1 2 "
        eventually(lambda name=name: gpus.is_loaded(name))
        assert gpus.worker(other).pid is None
        assert gpus.is_loaded("always")
        assert gpus.gpu().used_mib <= gpus.gpu().total_mib
    eventually(lambda: _counted(gpus, "unloads", "a", 'reason="eviction"') == 1)
    assert _counted(gpus, "loads", "a", 'kind="load"') == 1


def _counted(gpus: GpuHost, what: str, model: str, label: str) -> float:
    """A counter of this model's comings or goings."""
    labels = {label, f'model="{model}"'}
    found = re.findall(rf"ew_model_{what}_total{{(.*)}} (.*)", gpus.metrics())
    return sum(float(value) for text, value in found if labels <= set(text.split(",")))


def test_a_pinned_model_stays_and_who_does_not_fit_is_told_why(gpus: GpuHost) -> None:
    gpus.configure(a=on_demand(50 * 1024), b=on_demand(50 * 1024))
    assert gpus.start().code == 0
    assert gpus.run("load", "a").code == 0
    assert gpus.run("pin", "a").code == 0
    refused = gpus.ask("b")
    assert refused.status_code == 503
    assert refused.json()["code"] == "model_cannot_load"
    # A little more once `a`, which has the same settings, has been measured.
    assert re.search(r"`b` needs 50\.[02] GiB on one GPU", refused.json()["message"])
    assert gpus.is_loaded("a")
    load = gpus.run("load", "b")
    assert load.code == 1
    assert "a-0 50.0 GiB" in load.err
    assert gpus.run("pin", "a", "--off").code == 0
    assert gpus.run("load", "b").code == 0
    assert gpus.worker("a").pid is None


def test_load_and_unload_by_hand(gpus: GpuHost) -> None:
    gpus.configure(a=on_demand(), always={}, later=on_demand())
    assert gpus.run("start", "a", "always").code == 0
    load = gpus.run("load", "a")
    assert load.code == 0 and "a-0 is ready after" in load.err
    unload = gpus.run("unload", "a")
    assert unload.code == 0 and "until it is asked for" in unload.err
    assert gpus.worker("a").pid is None
    wrong = gpus.run("unload", "always")
    assert wrong.code == 1 and "`always` is always loaded" in wrong.err
    missing = gpus.run("load", "later")
    assert missing.code == 1 and "./ew start later" in missing.err
    unknown = gpus.run("load", "nobody")
    assert unknown.code == 1 and "there are: `a`, `always`, `later`" in unknown.err


def test_a_killed_worker_comes_back_to_its_place_when_its_memory_is_free(gpus: GpuHost) -> None:
    gpus.show(CARD, release_delay_s=1.5)
    gpus.configure(a={"mib": 50 * 1024})
    assert gpus.start().code == 0
    first = gpus.worker("a")
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    seen: set[str] = set()

    def is_back() -> bool:
        worker = gpus.worker("a")
        seen.add(worker.stage)
        return worker.pid not in (None, first.pid) and worker.state is State.READY

    eventually(is_back)
    assert "the GPU memory of its last run is not free yet" in seen
    eventually(lambda: gpus.gpu().used_mib == 600 + 50 * 1024)
    assert gpus.ask("a").json()["text"] == "0 1 2 "


def test_a_successor_keeps_the_account_and_the_pins(gpus: GpuHost, host: Host) -> None:
    gpus.configure(a=on_demand(50 * 1024), b=on_demand(50 * 1024))
    assert gpus.start().code == 0
    assert gpus.run("load", "a").code == 0
    assert gpus.run("pin", "a").code == 0
    pid, former = gpus.worker("a").pid, gpus.supervisor_pid()
    host.kill_supervisor()
    gpus.supervise()
    eventually(lambda: gpus.supervisor_pid() != former and read_status().gpus)
    eventually(lambda: gpus.gpu().workers)
    assert gpus.worker("a").pid == pid
    assert gpus.model("a").pinned
    assert gpus.ask("b").json()["code"] == "model_cannot_load"
    assert gpus.ask("a").json()["text"] == "0 1 2 "


def test_replicas_and_sets_of_gpus_are_spread(gpus: GpuHost) -> None:
    gpus.show(CARD, CARD | {"uuid": "GPU-b"})
    gpus.configure(
        twice={"mib": 1000, "replicas": 2},
        both={"mib": 2000, "tensor_parallel_size": 2},
        pinned={"mib": 1000, "gpus": [1]},
    )
    assert gpus.start().code == 0
    assert {gpus.visible_devices("twice", n) for n in (0, 1)} == {"GPU-a", "GPU-b"}
    assert gpus.visible_devices("both") == "GPU-a,GPU-b"
    assert gpus.visible_devices("pinned") == "GPU-b"
    eventually(lambda: gpus.gpu(0).used_mib == 3600 and gpus.gpu(1).used_mib == 4600)


def test_workers_run_on_slices_by_their_uuid(gpus: GpuHost) -> None:
    slices = [
        {"uuid": f"MIG-{number}", "total_mib": 20000, "instance": [number, 0]} for number in (1, 2)
    ]
    gpus.show(CARD | {"mig": True, "slices": slices})
    gpus.configure(a={"mib": 12000}, b={"mib": 12000})
    assert gpus.start().code == 0
    assert {gpus.visible_devices("a"), gpus.visible_devices("b")} == {"MIG-1", "MIG-2"}


@pytest.mark.parametrize("driver", ["LIBRARY_NOT_FOUND", "DRIVER_NOT_LOADED"])
def test_without_a_driver_models_start_without_an_account(gpus: GpuHost, driver: str) -> None:
    gpus.show(driver=driver)
    gpus.configure(a={"mib": 1000}, b=on_demand(1000))
    assert gpus.start().code == 0
    assert gpus.ask("b").json()["text"] == "0 1 2 "
    assert read_status().gpus == []
    assert "driver" in read_status().gpu_problem


def test_a_gpu_that_falls_off_the_bus_is_reported_and_takes_nobody(gpus: GpuHost) -> None:
    gpus.show(CARD, CARD | {"uuid": "GPU-b"})
    gpus.configure(a={"mib": 1000, "gpus": [1]}, b={"mib": 1000})
    assert gpus.start("--model", "a").code == 0
    gpus.show(CARD, CARD | {"uuid": "GPU-b", "fault": "GPU_IS_LOST"})
    eventually(lambda: "XID 79" in gpus.gpu(1).problem)
    assert "fallen off the bus" in gpus.run("status").out
    assert gpus.start("--model", "b").code == 0
    assert gpus.visible_devices("b") == "GPU-a"


def test_where_processes_are_not_listed_the_difference_is_the_workers(gpus: GpuHost) -> None:
    gpus.show(CARD | {"processes_seen": "none"})
    gpus.configure(a={"mib": 30 * 1024}, b={"mib": 20 * 1024})
    assert gpus.start().code == 0
    eventually(lambda: {each.stage for each in gpus.gpu().workers} == {"ready"})
    shares = {each.slot: each.used_mib for each in gpus.gpu().workers}
    assert shares == {"a-0": 30 * 1024, "b-0": 20 * 1024}


def test_an_orphan_is_ended_and_its_memory_comes_back(gpus: GpuHost) -> None:
    gpus.configure(a={"mib": 30 * 1024})
    assert gpus.start().code == 0
    pid = gpus.worker("a").pid
    assert pid is not None
    eventually(lambda: gpus.gpu().workers[0].stage == "ready")
    os.kill(pid, signal.SIGSTOP)
    assert gpus.run("stop", "--now", "a").code == 0
    assert not is_alive(pid)
    eventually(lambda: gpus.gpu().used_mib == 600 and not gpus.gpu().workers)
