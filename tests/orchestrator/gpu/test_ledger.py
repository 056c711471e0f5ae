"""The account of GPU memory is right: before a start, while it runs, after its end, and when
another supervisor takes it over. The cards are scripted; the processes that take memory are
real."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.config import ModelConfig
from orchestrator.estimate.estimate import Estimate
from orchestrator.estimate.kv_cache import KvCache
from orchestrator.estimate.parts import Part
from orchestrator.gpu.attribution import GpuUse, attribute
from orchestrator.gpu.demand import Need
from orchestrator.gpu.footprints import Footprints
from orchestrator.gpu.ledger import RELEASE_WITHIN_S, Ledger
from orchestrator.protocol.life import Phase
from orchestrator.terminal.sizes import GIB, MIB
from tests.orchestrator.scenes import Scene

CARD = {"uuid": "GPU-a", "total_mib": 80 * 1024, "driver_mib": 600}


def need(model: str, fixed_mib: int, cache_mib: int = 0, unseen_mib: int = 0) -> Need:
    parts = [Part("weights", (fixed_mib - unseen_mib) * MIB, "test")]
    if unseen_mib:
        parts += [Part("activations", unseen_mib * MIB, "test"), Part("CUDA graphs", 1, "test")]
    cache = KvCache(1, 1, 1, cache_mib * MIB, cache_mib * MIB)
    return Need(
        model_id=model,
        model=ModelConfig(engine="cuda-vllm", model_path=model),
        engine="cuda-vllm",
        key=model,
        estimate=Estimate(1, tuple(parts), cache),
        footprint=None,
    )


class Host:
    """A supervisor's view, without a supervisor: workers are processes that sleep."""

    def __init__(self, directory: Path, scene: Scene) -> None:
        self.directory = directory
        self.scene = scene
        self.now = 1000.0
        self.footprints = Footprints(directory / "footprints.json")
        self.ledger = self.new_ledger()
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def new_ledger(self) -> Ledger:
        return Ledger(self.directory / "ledger.json", self.footprints, clock=lambda: self.now)

    def uses(self) -> dict[str, GpuUse]:
        families = {slot: {worker.pid} for slot, worker in self.workers.items()}
        return attribute(self.scene.snapshot(), families)

    def start(self, slot: str, mib: int, uuid: str = "GPU-a") -> None:
        self.ledger.start(slot, self.uses())
        self.workers[slot] = subprocess.Popen(["sleep", "300"])
        self.scene.allocate(mib, uuid, self.workers[slot].pid)

    def ready(self, slot: str) -> None:
        self.ledger.settle(slot, Phase.READY, self.uses(), version="1", load_s=5.0)

    def obstacle(self, slot: str) -> str | None:
        return self.ledger.turns(self.uses()).obstacle(slot)

    def run(self, slot: str, mib: int) -> None:
        self.start(slot, mib)
        self.ready(slot)

    def kill(self, slot: str) -> None:
        worker = self.workers[slot]
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    def free_gib(self, uuid: str = "GPU-a") -> float:
        devices = {device.uuid: device for device in self.ledger.devices(self.uses())}
        return devices[uuid].free_bytes / GIB

    def used_mib(self, slot: str) -> int:
        (own,) = (each for each in self.ledger.reservations if each.slot == slot)
        return own.used_bytes["GPU-a"] // MIB


@pytest.fixture
def host(tmp_path: Path, scene: Scene) -> Iterator[Host]:
    scene.show(CARD)
    host = Host(tmp_path, scene)
    yield host
    for worker in host.workers.values():
        worker.kill()
        worker.wait()


def test_memory_is_promised_before_it_is_taken_and_once(host: Host) -> None:
    before = host.free_gib()
    host.ledger.reserve([(need("a", 20 * 1024), "a-0")], host.uses())
    assert host.free_gib() == pytest.approx(before - 20)
    host.start("a-0", 15 * 1024)
    assert host.free_gib() == pytest.approx(before - 35), "not measured yet: the promise stands"
    host.ledger.observe(host.uses())
    assert host.free_gib() == pytest.approx(before - 20)
    host.ready("a-0")
    assert host.free_gib() == pytest.approx(before - 20)


def test_what_does_not_fit_is_refused_with_who_has_what(host: Host) -> None:
    host.ledger.reserve([(need("a", 60 * 1024), "a-0")], host.uses())
    host.run("a-0", 58 * 1024)
    stranger = subprocess.Popen(["sleep", "301"])
    host.scene.allocate(5 * 1024, "GPU-a", stranger.pid)
    placement = host.ledger.reserve([(need("b", 30 * 1024), "b-0")], host.uses())
    stranger.kill()
    stranger.wait()
    text = str(placement.refusals[0])
    assert "`b` needs 30.0 GiB on one GPU" in text
    assert "GPU 0: 14.2 GiB free of 80.0 GiB (a-0 60.0 GiB, sleep 301 (pid" in text
    assert not any(each.slot == "b-0" for each in host.ledger.reservations)


def test_who_has_a_place_keeps_it(host: Host) -> None:
    wanted = [(need("a", 20 * 1024), "a-0")]
    host.ledger.reserve(wanted, host.uses())
    assert host.ledger.reserve(wanted, host.uses()).assignments == ()
    assert len(host.ledger.reservations) == 1


def test_starts_on_one_gpu_come_one_after_the_other(host: Host) -> None:
    host.scene.show(CARD, CARD | {"uuid": "GPU-b"})
    wanted = [(need("a", 50 * 1024), "a-0"), (need("b", 10 * 1024), "b-0")]
    host.ledger.reserve([*wanted, (need("c", 60 * 1024), "c-0")], host.uses())
    places = {each.slot: each.assignment.uuids for each in host.ledger.reservations}
    assert places["b-0"] == places["c-0"] != places["a-0"]
    assert host.obstacle("b-0") is None
    host.start("c-0", 100, places["c-0"][0])
    assert "`c-0` is starting" in (host.obstacle("b-0") or "")
    assert host.obstacle("a-0") is None
    host.ready("c-0")
    assert host.obstacle("b-0") is None


def test_a_start_waits_for_memory_that_a_stranger_has_taken_meanwhile(host: Host) -> None:
    host.ledger.reserve([(need("a", 60 * 1024), "a-0")], host.uses())
    stranger = subprocess.Popen(["sleep", "302"])
    host.scene.allocate(30 * 1024, "GPU-a", stranger.pid)
    obstacle = host.obstacle("a-0")
    stranger.kill()
    stranger.wait()
    assert obstacle is not None
    assert "GPU 0 lacks 10.6 GiB: sleep 302 (pid" in obstacle
    assert host.obstacle("a-0") is None


def test_a_worker_is_measured_over_its_processes_and_remembered(host: Host) -> None:
    host.ledger.reserve(
        [(need("a", 20 * 1024, cache_mib=2048, unseen_mib=1024), "a-0")], host.uses()
    )
    host.run("a-0", 12 * 1024)
    assert host.used_mib("a-0") == 12 * 1024
    known = host.footprints.get("a")
    assert known is not None
    assert known.ready_bytes == 10 * GIB, "without its cache"
    assert known.fixed_bytes == 11 * GIB + 256 * MIB
    host.scene.allocate(4096, "GPU-a", host.workers["a-0"].pid)
    host.ledger.observe(host.uses())
    known = host.footprints.get("a")
    assert known is not None
    assert known.peak_bytes == 14 * GIB


def test_memory_is_given_back_only_when_the_driver_shows_it_free(host: Host) -> None:
    before = host.free_gib()
    host.scene.show(CARD, release_delay_s=0.3)
    host.ledger.reserve([(need("a", 20 * 1024), "a-0")], host.uses())
    host.run("a-0", 20 * 1024)
    host.kill("a-0")
    host.ledger.end("a-0")
    assert host.ledger.observe(host.uses()) == []
    assert [each.phase for each in host.ledger.reservations] == [Phase.RELEASING]
    assert host.free_gib() == pytest.approx(before - 20)
    host.scene.show(CARD)
    host.ledger.observe(host.uses())
    assert host.ledger.reservations == []
    assert host.free_gib() == pytest.approx(before)


def test_a_slot_may_have_a_new_place_while_its_former_memory_becomes_free(host: Host) -> None:
    host.ledger.reserve([(need("a", 20 * 1024), "a-0")], host.uses())
    host.run("a-0", 20 * 1024)
    former = host.workers["a-0"]
    host.ledger.end("a-0")
    host.ledger.reserve([(need("a", 30 * 1024), "a-0")], host.uses())
    assert "`a-0 (ended)` is not free yet" in (host.obstacle("a-0") or "")
    former.kill()
    former.wait()
    host.ledger.observe(host.uses())
    assert host.obstacle("a-0") is None
    (own,) = host.ledger.reservations
    assert own.reserved_bytes == {"GPU-a": 30 * GIB}


def test_an_orphan_keeps_its_memory_on_the_account_until_patience_ends(host: Host) -> None:
    host.ledger.reserve([(need("a", 20 * 1024), "a-0")], host.uses())
    host.run("a-0", 20 * 1024)
    host.ledger.end("a-0")
    host.now += RELEASE_WITHIN_S - 1
    assert host.ledger.observe(host.uses()) == []
    host.now += 2
    (notice,) = host.ledger.observe(host.uses())
    assert f"pid {host.workers['a-0'].pid}" in notice
    assert "has 20.0 GiB" in notice
    assert host.ledger.reservations == []


def test_an_orphan_that_nobody_knows_as_ours_any_more_is_not_taken_for_a_stranger(
    host: Host,
) -> None:
    host.ledger.reserve([(need("a", 20 * 1024), "a-0")], host.uses())
    host.run("a-0", 20 * 1024)
    host.ledger.end("a-0")
    orphan = host.workers.pop("a-0")
    host.ledger.observe(host.uses())
    assert [each.phase for each in host.ledger.reservations] == [Phase.RELEASING]
    orphan.kill()
    orphan.wait()
    host.ledger.observe(host.uses())
    assert host.ledger.reservations == []


def test_one_that_comes_back_keeps_its_place_and_waits_for_its_own_memory(host: Host) -> None:
    host.ledger.reserve([(need("a", 50 * 1024), "a-0")], host.uses())
    host.run("a-0", 50 * 1024)
    host.ledger.end("a-0", returns=True)
    assert "its last run is not free yet" in (host.obstacle("a-0") or "")
    refused = host.ledger.reserve([(need("b", 50 * 1024), "b-0")], host.uses()).refusals
    assert [each.slot for each in refused] == ["b-0"]
    host.kill("a-0")
    host.ledger.observe(host.uses())
    assert host.obstacle("a-0") is None
    assert [each.phase for each in host.ledger.reservations] == [Phase.PENDING]
    refused = host.ledger.reserve([(need("b", 50 * 1024), "b-0")], host.uses()).refusals
    assert [each.slot for each in refused] == ["b-0"]


def test_a_neighbour_that_is_at_work_does_not_hide_that_memory_is_free_again(host: Host) -> None:
    host.ledger.reserve([(need("a", 10 * 1024), "a-0"), (need("b", 10 * 1024), "b-0")], host.uses())
    host.run("a-0", 5 * 1024)
    host.run("b-0", 5 * 1024)
    host.scene.allocate(3 * 1024, "GPU-a", host.workers["a-0"].pid)
    host.kill("b-0")
    host.ledger.end("b-0")
    host.ledger.observe(host.uses())
    assert [each.slot for each in host.ledger.reservations] == ["a-0"]


@pytest.mark.parametrize("seen", ["none", "no_memory"])
def test_where_the_driver_hides_processes_the_difference_counts(host: Host, seen: str) -> None:
    host.scene.show(CARD | {"processes_seen": seen})
    before = host.free_gib()
    host.ledger.reserve([(need("a", 10 * 1024), "a-0"), (need("b", 10 * 1024), "b-0")], host.uses())
    host.run("a-0", 8 * 1024)
    host.run("b-0", 6 * 1024)
    assert (host.used_mib("a-0"), host.used_mib("b-0")) == (8 * 1024, 6 * 1024)
    host.ledger.observe(host.uses())
    assert (host.used_mib("a-0"), host.used_mib("b-0")) == (8 * 1024, 6 * 1024)
    assert host.free_gib() == pytest.approx(before - 20)
    host.ledger.end("a-0")
    host.ledger.observe(host.uses())
    assert len(host.ledger.reservations) == 2, "it still has its memory"
    host.kill("a-0")
    host.ledger.observe(host.uses())
    assert [each.slot for each in host.ledger.reservations] == ["b-0"]
    assert host.free_gib() == pytest.approx(before - 10)


@pytest.mark.parametrize("seen", ["all", "none"])
def test_who_sleeps_holds_what_it_keeps_and_wakes_in_its_own_place(host: Host, seen: str) -> None:
    host.scene.show(CARD | {"processes_seen": seen})
    before = host.free_gib()
    host.ledger.reserve([(need("a", 50 * 1024), "a-0"), (need("b", 10 * 1024), "b-0")], host.uses())
    host.run("b-0", 10 * 1024)
    host.run("a-0", 50 * 1024)
    known = host.footprints.get("a")
    pid = host.workers["a-0"].pid
    host.scene.allocate(-48 * 1024, "GPU-a", pid)
    asleep = host.ledger.settle("a-0", Phase.ASLEEP, host.uses())
    assert asleep.reserved_bytes == {"GPU-a": 2 * GIB}
    assert asleep.lacking_bytes == {"GPU-a": 48 * GIB}
    host.ledger.observe(host.uses())
    assert host.used_mib("a-0") == 2 * 1024
    assert host.free_gib() == pytest.approx(before - 12)
    assert host.new_ledger().reservations == host.ledger.reservations
    # A new supervisor may take it for awake until it says that it sleeps.
    host.ready("a-0")
    assert host.ledger.settle("a-0", Phase.ASLEEP, host.uses()).lacking_bytes == {"GPU-a": 48 * GIB}
    assert host.footprints.get("a") == known
    assert asleep.stage == "asleep"
    host.ledger.wake("a-0")
    assert [each.stage for each in host.ledger.reservations] == ["wake_pending", "ready"]
    assert host.free_gib() == pytest.approx(before - 60)
    assert host.obstacle("a-0") is None
    assert host.ledger.turns(host.uses()).lost() == []
    host.ledger.wakes("a-0")
    host.scene.allocate(48 * 1024, "GPU-a", pid)
    host.ready("a-0")
    assert host.used_mib("a-0") == 50 * 1024
    assert host.footprints.get("a") == known, "waking says nothing of loading"


def test_nobody_starts_beside_one_that_wakes_and_two_wake_at_once(host: Host) -> None:
    wanted = [(need(name, 10 * 1024), f"{name}-0") for name in ("a", "b", "c")]
    host.ledger.reserve(wanted, host.uses())
    for slot in ("a-0", "b-0"):
        host.run(slot, 10 * 1024)
        host.scene.allocate(-9 * 1024, "GPU-a", host.workers[slot].pid)
        host.ledger.settle(slot, Phase.ASLEEP, host.uses())
        host.ledger.wake(slot)
        host.ledger.wakes(slot)
    assert "is waking on the same GPU" in (host.obstacle("c-0") or "")
    assert host.obstacle("a-0") is None
    assert host.obstacle("b-0") is None


def test_a_new_supervisor_takes_the_account_over(host: Host) -> None:
    host.ledger.reserve([(need("a", 20 * 1024), "a-0"), (need("b", 10 * 1024), "b-0")], host.uses())
    host.ledger.reserve([(need("c", 10 * 1024), "c-0")], host.uses())
    host.run("a-0", 20 * 1024)
    host.run("b-0", 10 * 1024)
    free = host.free_gib()
    host.kill("b-0")
    successor = host.new_ledger()
    successor.adopt({"a-0"})
    assert {each.slot: each.phase for each in successor.reservations} == {
        "a-0": Phase.READY,
        "b-0 (ended)": Phase.RELEASING,
    }
    successor.observe(host.uses())
    (device,) = successor.devices(host.uses())
    assert device.free_bytes / GIB == pytest.approx(free + 20), "b has gone, c never came"


def test_an_account_from_before_a_reboot_is_void(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.ledger.reserve([(need("a", 20 * 1024), "a-0")], host.uses())
    monkeypatch.setattr("orchestrator.gpu.ledger_file.boot_id", lambda: "another")
    assert host.new_ledger().reservations == []


def test_a_damaged_account_is_begun_anew(host: Host) -> None:
    (host.directory / "ledger.json").write_text("{")
    assert host.new_ledger().reservations == []


def test_a_lost_gpu_holds_nothing_up(host: Host) -> None:
    host.ledger.reserve([(need("a", 20 * 1024), "a-0")], host.uses())
    host.run("a-0", 20 * 1024)
    host.scene.show(CARD | {"fault": "GPU_IS_LOST"})
    host.kill("a-0")
    host.ledger.end("a-0", returns=True)
    assert host.ledger.observe(host.uses()) == []
    assert host.obstacle("a-0") is not None


def test_what_was_planned_and_never_started_is_simply_given_back(host: Host) -> None:
    before = host.free_gib()
    host.ledger.reserve([(need("a", 20 * 1024), "a-0")], host.uses())
    host.ledger.end("a-0")
    host.ledger.end("unknown-0")
    assert host.free_gib() == before
