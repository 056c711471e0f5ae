"""Models come, go, sleep, fail and change hands: the supervisor's own code over a simulated host.
The same lives with real processes: test_loading.py and test_sleeping.py."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from contract.bus.registration import Registration
from contract.endings import LETTER_DAYS
from contract.messages import State
from contract.supervision.problem import Problem
from orchestrator.gpu import ledger_file
from orchestrator.gpu import worker_needs as needs_module
from orchestrator.gpu.nvml.snapshot import Snapshot
from orchestrator.protocol.specs import ValkeySpec
from orchestrator.supervisor.models import loader as loader_module
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.host_memory import HostMemory
from orchestrator.terminal.sizes import MIB
from tests.orchestrator.simulated_host import (
    KEPT_MIB,
    SimulatedHost,
    SimulatedProcess,
    reserved_mib,
)


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, int]], SimulatedHost]:
    plenty = HostMemory(total=100_000 * MIB, available=100_000 * MIB)
    monkeypatch.setattr(loader_module, "host_memory", lambda: plenty)
    return lambda gpus: SimulatedHost(monkeypatch, gpus)


Host = Callable[[dict[str, int]], SimulatedHost]


@pytest.fixture
def here(host: Host) -> SimulatedHost:
    """A host with one roomy GPU."""
    return host({"GPU-a": 10_000})


def started_valkey(host: SimulatedHost) -> Unit:
    return host.fleet.want(ValkeySpec(), host.now)


def draining_before_it_sleeps(here: SimulatedHost) -> SimulatedProcess:
    """Model `m`, told to fall asleep while it still answers."""
    here.start("m", 1000, sleep=True)
    loaded(here, "m")
    worker = here.worker("m-0")
    worker.busy = here.unfinished["m"] = 1
    here.loader.unload("m")
    here.turns(3)
    return worker


def give_up(host: SimulatedHost, slot: str) -> None:
    """Its process ends, and there is no point in another."""
    host.worker(slot).end()
    host.fleet.reconcile(host.now)
    host.unit(slot).fail(Problem("it crashed too often"))


def loaded(host: SimulatedHost, model: str) -> None:
    host.loader.load(model)
    host.turns()
    assert {unit.state for unit, w in host.fleet.workers if w.model == model} == {State.READY}


def asleep(host: SimulatedHost, model: str) -> None:
    loaded(host, model)
    host.loader.unload(model)
    host.turns()
    assert {unit.state for unit, w in host.fleet.workers if w.model == model} == {State.SLEEPING}


def test_the_end_of_a_worker_is_kept_with_its_gpus_as_they_were(here: SimulatedHost) -> None:
    here.strangers_mib["GPU-a"] = 700
    here.start("m", 1000)
    loaded(here, "m")
    worker = here.worker("m-0")
    used_mib = here.used_mib("GPU-a")
    worker.kill()
    here.turns(2)
    ((model, end, days),) = here.lost_workers.ends
    assert (model, end.worker, days) == ("m", worker.name, LETTER_DAYS)
    (gpu,) = end.gpus
    assert (gpu.total_mib, gpu.used_mib, gpu.foreign_mib) == (10_000, used_mib, 700)
    assert gpu.worker_mib == 1000


def test_a_replica_that_was_given_up_is_tried_again_beside_those_that_serve(
    here: SimulatedHost,
) -> None:
    here.start("m", 1000, replicas=2)
    loaded(here, "m")
    first = here.worker("m-0")
    give_up(here, "m-1")
    here.turns(40)
    assert here.worker("m-0") is first and not first.told
    assert here.state("m-1") is not State.READY
    here.unfinished["m"] = first.busy = 1
    here.turns()
    assert here.worker("m-0") is first
    assert here.states() == {"m-0": State.READY, "m-1": State.READY}


def test_a_model_of_which_a_replica_was_given_up_still_goes_when_idle(here: SimulatedHost) -> None:
    here.start("m", 1000, replicas=2, idle_unload_s=20)
    loaded(here, "m")
    give_up(here, "m-1")
    here.turns(60)
    assert here.states() == {"m-0": State.STOPPED, "m-1": State.STOPPED}
    assert here.used_mib("GPU-a") == 600


@pytest.mark.parametrize("jump_s", [36_000, -36_000])
def test_a_clock_that_jumps_unloads_nothing_and_keeps_nothing(
    here: SimulatedHost, jump_s: float
) -> None:
    here.start("m", 1000, idle_unload_s=60)
    loaded(here, "m")
    here.clock_ahead_s = jump_s
    here.turns(5)
    here.replace_supervisor()
    here.turns(40)
    assert here.state("m-0") is State.READY
    here.turns(60)
    assert here.state("m-0") is State.STOPPED
    assert here.used_mib("GPU-a") == 600


def test_a_replica_that_was_given_up_does_not_show_to_those_whom_others_serve(
    here: SimulatedHost,
) -> None:
    here.start("m", 1000, replicas=2)
    loaded(here, "m")
    give_up(here, "m-1")
    assert here.registration("m").problem == ""
    give_up(here, "m-0")
    assert here.registration("m").problem == "it crashed too often"


@pytest.mark.parametrize("sleep", [True, False])
def test_replicas_added_while_a_model_rests_rest_too_and_load_with_it(
    here: SimulatedHost, sleep: bool
) -> None:
    here.start("m", 1000, sleep=sleep)
    if sleep:
        asleep(here, "m")
    here.start("m", 1000, replicas=3, sleep=sleep)
    here.turns()
    assert here.state("m-1") is here.state("m-2") is State.STOPPED
    loaded(here, "m")
    assert len(here.states()) == 3


def test_replicas_added_to_a_model_at_work_start_at_once(here: SimulatedHost) -> None:
    here.start("m", 1000)
    loaded(here, "m")
    here.start("m", 1000, replicas=2)
    here.turns()
    assert here.states() == {"m-0": State.READY, "m-1": State.READY}


def test_a_sleeper_whose_place_a_stranger_took_sleeps_on_and_wakes_when_he_is_gone(
    host: Host,
) -> None:
    here = host({"GPU-a": 5000})
    here.start("a", 2000, sleep=True)
    asleep(here, "a")
    here.start("slow", 1000, load="always")
    here.turns(1)
    here.worker("slow-0").stuck = True
    here.loader.load("a")
    here.turns(2)
    assert here.unit("a-0").stage == "`slow-0` is starting on the same GPU"
    here.strangers_mib["GPU-a"] = 2500
    here.turns(2)
    here.worker("slow-0").stuck = False
    here.turns()
    assert here.unit("a-0").is_asleep
    assert reserved_mib(here) == {"a-0": KEPT_MIB, "slow-0": 1000}
    here.strangers_mib.clear()
    here.unfinished["a"] = 1
    here.turns(60)
    assert here.state("a-0") is State.READY
    assert reserved_mib(here) == {"a-0": 2000, "slow-0": 1000}


def test_a_sleeper_that_cannot_wake_says_why(host: Host) -> None:
    here = host({"GPU-a": 8000})
    here.start("a", 5000, sleep=True)
    asleep(here, "a")
    here.start("b", 7000)
    loaded(here, "b")
    here.loader.pin("b", is_pinned=True)
    here.unfinished["a"] = 1
    here.turns(2)
    assert "b-0 6.8 GiB" in here.registration("a").problem
    assert here.worker("a-0").is_alive
    here.loader.pin("b", is_pinned=False)
    here.turns(90)
    assert here.states() == {"a-0": State.READY, "b-0": State.STOPPED}


def test_who_keeps_too_much_while_it_sleeps_leaves_altogether(host: Host) -> None:
    here = host({"GPU-a": 8000})
    here.start("a", 5000, kept_mib=3000, sleep=True)
    asleep(here, "a")
    sleeper = here.worker("a-0")
    here.start("b", 6000)
    loaded(here, "b")
    assert not sleeper.is_alive


def test_a_killed_sleeper_is_loaded_anew(here: SimulatedHost) -> None:
    here.start("a", 5000, sleep=True)
    asleep(here, "a")
    here.worker("a-0").end()
    here.turns()
    assert here.state("a-0") is State.STOPPED
    assert reserved_mib(here) == {}
    loaded(here, "a")
    assert here.used_mib("GPU-a") == 5600


@pytest.mark.parametrize("sleep", [True, False])
def test_models_asked_in_turn_do_not_chase_each_other_away_and_none_waits_for_ever(
    here: SimulatedHost, sleep: bool
) -> None:
    for name in "ab":
        here.start(name, 8000, sleep=sleep)
    served: dict[str, list[float]] = {"a": [], "b": []}
    for _ in range(600):
        for name, times in served.items():
            # A request each second, which is answered at once if the model is loaded.
            is_ready = here.state(f"{name}-0") is State.READY
            here.unfinished[name] = 0 if is_ready else 1
            if is_ready:
                here.worker(f"{name}-0").jobs_total += 1
                times.append(here.now)
        here.turns(1)
    for times in served.values():
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert max(gaps) < 60
        swaps = sum(gap > 2 for gap in gaps)
        assert 5 < swaps < 30
        assert len(times) > 200
    assert (len(here.processes) == 2) == sleep


def test_models_that_fall_asleep_together_share_the_hosts_memory(
    here: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        here.start(name, 3000, sleep=True)
        loaded(here, name)
    # Room for one, beside what is always left free.
    memory = HostMemory(total=10_000 * MIB, available=5000 * MIB)
    monkeypatch.setattr(loader_module, "host_memory", lambda: memory)
    for name in "ab":
        here.loader.unload(name)
    here.turns()
    assert here.states() == {"a-0": State.SLEEPING, "b-0": State.STOPPED}


def test_a_busy_model_that_makes_room_leaves_without_hurry_and_stop_hurries_it(
    here: SimulatedHost,
) -> None:
    here.start("a", 1000)
    loaded(here, "a")
    worker = here.worker("a-0")
    worker.busy = here.unfinished["a"] = 1
    here.loader.unload("a")
    here.turns(300)
    assert worker.told == ["retire"]
    assert (here.state("a-0"), here.unit("a-0").stage) == (State.STOPPING, "draining")
    here.unit("a-0").unwant()
    here.turns(1)
    assert worker.told == ["retire", "terminate"]
    here.turns(60)
    assert (here.state("a-0"), worker.is_alive) == (State.STOPPED, False)


def test_jobs_that_wait_do_not_call_back_a_model_that_was_stopped(here: SimulatedHost) -> None:
    here.start("a", 1000)
    loaded(here, "a")
    here.unfinished["a"] = 3
    here.unit("a-0").unwant()
    here.turns(60)
    assert here.state("a-0") is State.STOPPED
    assert here.loader.models.registrations() == {}
    assert reserved_mib(here) == {}


def test_a_busy_model_has_all_the_time_that_answers_may_take_but_no_more(
    here: SimulatedHost,
) -> None:
    here.start("a", 1000)
    loaded(here, "a")
    worker = here.worker("a-0")
    worker.busy = here.unfinished["a"] = 1
    here.loader.unload("a")
    here.turns(930)
    assert worker.is_alive
    here.turns(30)
    assert not worker.is_alive


def test_jobs_left_behind_by_an_unload_bring_the_model_back(here: SimulatedHost) -> None:
    here.start("a", 1000)
    loaded(here, "a")
    first = here.worker("a-0")
    here.unfinished["a"] = 1
    here.loader.unload("a")
    here.turns()
    assert here.worker("a-0") is not first
    assert here.state("a-0") is State.READY


def test_resting_models_cost_nothing_while_nobody_asks(
    here: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        here.start(name, 1000)
    here.turns()
    written: list[Path] = []
    worked_out: list[str] = []
    real = needs_module.need_of
    monkeypatch.setattr(ledger_file, "write_atomically", lambda path, _: written.append(path))
    monkeypatch.setattr(
        needs_module,
        "need_of",
        lambda name, *rest: worked_out.append(name) or real(name, *rest),
    )
    here.turns(10)
    assert (written, worked_out) == ([], [])
    loaded(here, "a")
    assert set(written) == {ledger_file.ledger_path()} and worked_out


def test_a_driver_that_has_not_answered_yet_is_waited_for(here: SimulatedHost) -> None:
    here.start("a", 1000, load="always")
    slow = Snapshot(here.now, problem="NVML has not answered for 5 s", is_pending=True)
    here.allocator.observed(slow, {}, here.now)
    here.loader.reconcile()
    here.fleet.reconcile(here.now)
    assert here.unit("a-0").stage == "looking at the GPUs"
    assert here.processes == []
    here.turns()
    assert here.state("a-0") is State.READY
    assert reserved_mib(here) == {"a-0": 1000}


def test_a_worker_that_died_is_not_started_while_redis_is_away(here: SimulatedHost) -> None:
    here.start("a", 1000, load="always")
    here.turns()
    here.is_redis_away = True
    here.turns(1)
    here.worker("a-0").end()
    here.turns(600)
    assert here.unit("a-0").process is None
    assert here.unit("a-0").stage == "waiting for Redis, which does not answer"
    here.is_redis_away = False
    here.turns()
    assert here.state("a-0") is State.READY


def test_a_valkey_that_hangs_is_started_again_in_the_end(here: SimulatedHost) -> None:
    valkey = started_valkey(here)
    here.start("a", 1000)
    loaded(here, "a")
    here.is_redis_away = True
    before = valkey.process
    assert before is not None
    here.turns(50)
    assert valkey.process is before
    here.turns(20)
    here.is_redis_away = False
    here.turns(5)
    assert valkey.process is not before
    assert here.state("valkey") is State.READY


@pytest.mark.parametrize("first", ["nobody", "c"])
def test_of_two_models_asked_for_at_once_one_waits_for_the_other(
    here: SimulatedHost, first: str
) -> None:
    for name in "abc":
        here.start(name, 8000)
    if first == "c":
        loaded(here, "c")
        here.turns(60)
    here.unfinished.update(a=1, b=1)
    here.turns(3)
    assert [here.registration(name).problem for name in "ab"] == ["", ""]
    here.turns(10)
    here.unfinished["a"] = 0
    here.turns(40)
    assert here.state("b-0") is State.READY


def test_gateways_always_hear_of_a_model_that_a_new_supervisor_found_asleep(
    here: SimulatedHost,
) -> None:
    here.start("m", 1000, sleep=True)
    asleep(here, "m")
    here.replace_supervisor()
    assert here.registration("m") == Registration()


@pytest.mark.parametrize("sleep", [True, False])
def test_where_processes_are_hidden_models_that_take_turns_keep_their_figures(
    here: SimulatedHost, sleep: bool
) -> None:
    here.lists_processes = False
    for name in "ab":
        here.start(name, 6000, sleep=sleep)
    for _ in range(3):
        for name, other in ("ab", "ba"):
            here.unfinished.update({name: 1, other: 0})
            here.turns(60)
            assert here.state(f"{name}-0") is State.READY
            (own,) = (each for each in here.allocator.reservations if each.slot == f"{name}-0")
            assert own.used_bytes == {"GPU-a": 6000 * MIB}


def test_where_processes_are_hidden_a_sleeper_does_not_take_a_strangers_memory_for_its_own(
    host: Host,
) -> None:
    here = host({"GPU-a": 5000})
    here.lists_processes = False
    here.start("a", 2000, sleep=True)
    asleep(here, "a")
    here.start("slow", 1000, load="always")
    here.turns(1)
    here.worker("slow-0").stuck = True
    here.loader.load("a")
    here.turns(2)
    here.strangers_mib["GPU-a"] = 2500
    here.turns(2)
    (own,) = (each for each in here.allocator.reservations if each.slot == "a-0")
    assert own.used_bytes == {"GPU-a": KEPT_MIB * MIB}


def test_where_processes_are_hidden_two_that_fall_asleep_do_so_one_after_the_other(
    here: SimulatedHost,
) -> None:
    here.lists_processes = False
    here.start("m", 3000, replicas=2, kept_mib=1500, sleep=True)
    for _ in range(3):
        loaded(here, "m")
        here.loader.unload("m")
        here.turns(30)
        assert reserved_mib(here) == {"m-0": 1500, "m-1": 1500}
    here.loader.load("m")
    here.turns(30)
    here.loader.unload("m")
    here.turns(30)
    here.loader.unload("m")
    here.turns(30)
    loaded(here, "m")


def test_where_processes_are_hidden_a_load_while_they_fall_asleep_is_served(
    here: SimulatedHost,
) -> None:
    here.lists_processes = False
    here.start("m", 3000, replicas=2, sleep=True)
    loaded(here, "m")
    here.loader.unload("m")
    here.turns(1)
    here.loader.load("m")
    here.turns(60)
    assert here.states() == {"m-0": State.READY, "m-1": State.READY}


@pytest.mark.parametrize("sleep", [True, False])
def test_where_processes_are_hidden_nobody_leaves_while_another_starts(
    here: SimulatedHost, sleep: bool
) -> None:
    here.lists_processes = False
    here.start("a", 3000, sleep=sleep)
    here.start("c", 4000)
    loaded(here, "a")
    here.loader.load("c")
    here.turns(1)
    slow = here.worker("c-0")
    slow.stuck = True
    here.loader.unload("a")
    here.turns(10)
    assert here.state("a-0") is State.READY
    slow.stuck = False
    here.turns(20)
    assert here.state("a-0") is (State.SLEEPING if sleep else State.STOPPED)
    (own,) = (each for each in here.allocator.reservations if each.slot == "c-0")
    assert own.used_bytes == {"GPU-a": 4000 * MIB}


def test_one_missed_beat_does_not_end_who_drains_before_it_sleeps(here: SimulatedHost) -> None:
    worker = draining_before_it_sleeps(here)
    worker.mute = True
    here.turns(1)
    worker.mute = False
    here.turns(60)
    assert worker.is_alive
    worker.busy = here.unfinished["m"] = 0
    here.turns()
    assert here.unit("m-0").is_asleep


def test_a_sleeping_replica_is_promised_nothing_that_others_have(host: Host) -> None:
    here = host({"GPU-a": 5500, "GPU-b": 5500})
    here.start("m", 3000, replicas=2, sleep=True)
    loaded(here, "m")
    slots = {here.worker(slot).uuids[0]: slot for slot in ("m-0", "m-1")}
    here.loader.unload("m")
    here.turns()
    here.start("slow", 1000, load="always", gpus=["GPU-a"])
    here.turns(1)
    here.worker("slow-0").stuck = True
    here.loader.load("m")
    here.turns(3)
    here.strangers_mib["GPU-a"] = 2500
    here.turns(2)
    here.worker("slow-0").stuck = False
    here.unfinished["m"] = 1
    here.turns(5)
    for _ in range(20):
        here.turns(1)
        assert reserved_mib(here)[slots["GPU-a"]] == KEPT_MIB
    assert here.state(slots["GPU-b"]) is State.READY
    here.start("c", 500, gpus=["GPU-a"])
    loaded(here, "c")
    here.strangers_mib.clear()
    here.turns()
    assert here.state(slots["GPU-a"]) is State.READY


def test_a_load_while_a_replica_still_drains_wakes_nobody_without_room(host: Host) -> None:
    here = host({"GPU-a": 5000, "GPU-b": 5000})
    here.start("m", 4000, replicas=2, sleep=True)
    loaded(here, "m")
    here.worker("m-1").busy = 1
    here.loader.unload("m")
    here.turns(5)
    assert here.unit("m-0").is_asleep
    here.start("b", 3900)
    loaded(here, "b")
    here.worker("b-0").busy = here.unfinished["b"] = 1
    here.loader.load("m")
    here.turns(20)
    assert here.unit("m-0").is_asleep
    here.worker("b-0").busy = here.unfinished["b"] = 0
    here.worker("m-1").busy = 0
    here.unfinished["m"] = 1
    here.turns(60)
    assert (here.state("m-0"), here.state("m-1")) == (State.READY, State.READY)


def test_a_load_before_a_new_supervisor_knows_who_sleeps_wakes_nobody_without_room(
    host: Host,
) -> None:
    here = host({"GPU-a": 8000})
    here.start("a", 5000, sleep=True)
    asleep(here, "a")
    here.start("b", 7000)
    loaded(here, "b")
    here.is_redis_away = True
    here.turns(1)
    here.replace_supervisor()
    here.turns(1)
    here.is_redis_away = False
    here.loader.load("a")
    here.turns(90)
    assert here.states() == {"a-0": State.READY, "b-0": State.STOPPED}


def test_a_sleeper_that_a_new_supervisor_found_may_be_made_to_leave(host: Host) -> None:
    here = host({"GPU-a": 8000})
    here.start("a", 5000, kept_mib=3000, sleep=True)
    asleep(here, "a")
    here.replace_supervisor()
    here.turns(5)
    here.start("b", 6000)
    here.unfinished["b"] = 1
    here.turns(60)
    assert here.state("b-0") is State.READY


def test_a_new_supervisor_does_not_take_a_processs_age_for_its_load_time(
    here: SimulatedHost,
) -> None:
    here.start("m", 6000, sleep=True)
    asleep(here, "m")
    here.now += 36_000
    here.loader.load("m")
    here.loader.reconcile()
    here.fleet.reconcile(here.now)
    assert here.worker("m-0").told == ["wake"]
    here.replace_supervisor()
    here.turns()
    assert here.state("m-0") is State.READY
    here.start("b", 6000)
    here.unfinished["b"] = 1
    here.turns(60)
    assert here.state("b-0") is State.READY


def test_a_model_may_be_started_again_with_fewer_replicas(here: SimulatedHost) -> None:
    here.start("m", 1000, replicas=2)
    loaded(here, "m")
    for slot in ("m-0", "m-1"):
        here.unit(slot).unwant()
    here.turns()
    here.start("m", 1000, replicas=1)
    here.turns()
    assert here.registration("m").problem == ""
    here.unfinished["m"] = 1
    here.turns()
    assert here.states() == {"m-0": State.READY, "m-1": State.STOPPED}


def test_a_resting_model_that_is_to_be_loaded_always_is(here: SimulatedHost) -> None:
    here.start("m", 1000)
    here.turns()
    here.start("m", 1000, load="always")
    here.turns()
    assert here.state("m-0") is State.READY


def test_a_second_unload_hurries_nobody_who_still_answers(here: SimulatedHost) -> None:
    worker = draining_before_it_sleeps(here)
    here.loader.unload("m")
    here.turns(3)
    assert worker.told == ["sleep", "retire"]
    worker.busy = here.unfinished["m"] = 0
    here.turns()
    assert here.state("m-0") is State.STOPPED


@pytest.mark.parametrize(("sleep", "within_s"), [(True, 30), (False, 60)])
def test_a_worker_that_hangs_while_it_falls_asleep_or_leaves_is_killed(
    here: SimulatedHost, sleep: bool, within_s: int
) -> None:
    here.start("m", 1000, sleep=sleep)
    loaded(here, "m")
    worker = here.worker("m-0")
    worker.stuck = worker.mute = True
    here.loader.unload("m")
    here.turns(within_s)
    assert not worker.is_alive


def test_a_replica_that_never_starts_keeps_nobody_awake_and_nobody_out(here: SimulatedHost) -> None:
    here.start("m", 4000, replicas=2, idle_unload_s=60)
    here.start("x", 8000)
    here.turns()
    here.loader.load("m")

    def pass_time(seconds: int) -> None:
        for _ in range(seconds):
            broken = here.unit("m-1").process
            if isinstance(broken, SimulatedProcess):
                broken.stuck = True
                if here.now - broken.started >= 5:
                    broken.end()
            here.turns(1)

    pass_time(300)
    assert here.state("m-0") is State.STOPPED
    assert len(here.processes) < 10
    here.unfinished["m"] = 1
    pass_time(60)
    here.unfinished["m"] = 0
    assert here.state("m-0") is State.READY
    here.unfinished["x"] = 1
    pass_time(60)
    assert here.state("x-0") is State.READY


def test_a_valkey_that_refuses_is_not_taken_for_one_that_hangs(here: SimulatedHost) -> None:
    valkey = started_valkey(here)
    here.turns()
    assert here.state("valkey") is State.READY
    process = valkey.process
    here.redis_refuses = True
    here.turns(300)
    assert valkey.process is process
    assert here.state("valkey") is State.READY


def resting(here: SimulatedHost) -> None:
    here.turns()


def waiting_for_a_place(here: SimulatedHost) -> None:
    here.start("other", 8000)
    loaded(here, "other")
    here.worker("other-0").busy = here.unfinished["other"] = 1
    here.turns(1)
    here.loader.load("m")
    here.turns(2)
    assert "stays for now" in here.unit("m-0").stage
    here.worker("other-0").busy = here.unfinished["other"] = 0


def starting(here: SimulatedHost) -> None:
    here.turns()
    here.loader.load("m")
    here.loader.reconcile()
    here.fleet.reconcile(here.now)
    assert here.state("m-0") is State.STARTING
    assert here.processes


def ready(here: SimulatedHost) -> None:
    here.turns()
    loaded(here, "m")


def falling_asleep(here: SimulatedHost) -> None:
    ready(here)
    here.worker("m-0").stuck = True
    here.loader.unload("m")
    here.turns(2)
    assert here.worker("m-0").told == ["sleep"]
    here.worker("m-0").stuck = False


def sleeping(here: SimulatedHost) -> None:
    here.turns()
    asleep(here, "m")


def waking(here: SimulatedHost) -> None:
    sleeping(here)
    here.loader.load("m")
    here.loader.reconcile()
    here.fleet.reconcile(here.now)
    assert here.worker("m-0").told == ["wake"]


def leaving(here: SimulatedHost) -> None:
    ready(here)
    here.worker("m-0").busy = 1
    here.unit("m-0").park()
    here.turns(2)
    assert here.worker("m-0").told == ["retire"]
    here.worker("m-0").busy = 0


def given_up(here: SimulatedHost) -> None:
    ready(here)
    give_up(here, "m-0")


@pytest.mark.parametrize(
    "bring_about",
    [
        resting,
        waiting_for_a_place,
        starting,
        ready,
        falling_asleep,
        sleeping,
        waking,
        leaving,
        given_up,
    ],
)
def test_a_new_supervisor_goes_on_from_every_state(
    here: SimulatedHost, bring_about: Callable[[SimulatedHost], None]
) -> None:
    here.start("m", 3000, sleep=True)
    bring_about(here)
    alive = [each for each in here.processes if each.is_alive]
    here.replace_supervisor()
    here.turns()
    assert [each for each in here.processes if each.is_alive] == alive or bring_about is leaving
    here.unfinished["m"] = 1
    here.turns(60)
    assert here.state("m-0") is State.READY
    assert here.used_mib("GPU-a") == 3600
    assert reserved_mib(here)["m-0"] >= 3000
    here.unfinished["m"] = 0
    asleep(here, "m")
    assert reserved_mib(here) == {"m-0": KEPT_MIB}


def test_a_model_that_nobody_asked_for_waits_for_no_turn(here: SimulatedHost) -> None:
    """Clients and the operator read the same."""
    here.start("m", 1000)
    here.turns()
    assert here.states() == {"m-0": State.STOPPED}
    assert here.registration("m").stage == here.unit("m-0").stage == "loads on demand"
    loaded(here, "m")
    assert here.registration("m") == Registration()


def test_a_model_that_is_started_again_while_it_stops_loads_at_its_next_request(
    here: SimulatedHost,
) -> None:
    here.start("m", 1000)
    loaded(here, "m")
    here.unit("m-0").unwant()
    here.worker("m-0").busy = 1
    here.turns(1)
    here.start("m", 1000)
    here.worker("m-0").busy = 0
    here.turns()
    assert (here.state("m-0"), here.unit("m-0").stage) == (State.STOPPED, "loads on demand")
    loaded(here, "m")


@pytest.mark.parametrize("bring_about", [resting, ready, falling_asleep, sleeping, waking])
def test_a_worker_is_replaced_once_and_in_every_state(
    here: SimulatedHost, bring_about: Callable[[SimulatedHost], None]
) -> None:
    here.start("m", 3000, sleep=True)
    bring_about(here)
    former = here.unit("m-0").process
    new = msgspec.structs.replace(here.unit("m-0").spec, version="2")
    here.fleet.replace(here.unit("m-0"), new, here.now)
    here.unfinished["m"] = 1
    here.turns(60)
    assert here.state("m-0") is State.READY
    assert here.worker("m-0") is not former
    assert here.worker("m-0").spec == new
    assert len(here.processes) == (1 if former is None else 2)


def test_a_start_while_a_worker_is_replaced_keeps_it_at_work(here: SimulatedHost) -> None:
    here.start("m", 1000)
    loaded(here, "m")
    former = here.worker("m-0")
    former.busy = here.unfinished["m"] = 1
    new = msgspec.structs.replace(here.unit("m-0").spec, version="2")
    here.fleet.replace(here.unit("m-0"), new, here.now)
    here.turns(3)
    assert former.told == ["retire"]
    assert not here.registration("m").is_returning, "requests for it wait in any case"
    here.start("m", 1000)
    former.busy = here.unfinished["m"] = 0
    here.turns()
    assert here.state("m-0") is State.READY
    assert here.worker("m-0") is not former


def test_a_model_that_is_restarted_is_registered_as_one_that_returns(here: SimulatedHost) -> None:
    here.start("m", 1000, load="always")
    here.turns()
    assert here.loader.models.registrations() == {}
    here.worker("m-0").busy = here.unfinished["m"] = 1
    new = msgspec.structs.replace(here.unit("m-0").spec, version="2")
    here.fleet.replace(here.unit("m-0"), new, here.now)
    here.turns(3)
    assert here.registration("m").is_returning
    here.processes[0].busy = here.unfinished["m"] = 0
    here.turns()
    assert here.loader.models.registrations() == {}


def test_a_sleeper_that_is_to_be_always_loaded_takes_no_memory_of_others(
    here: SimulatedHost,
) -> None:
    here.start("a", 6000, sleep=True)
    asleep(here, "a")
    here.start("b", 6000)
    loaded(here, "b")
    now_always = here.changed("a-0", load="always")
    here.fleet.replace(here.unit("a-0"), now_always, here.now)
    here.loader.models.restarted([now_always])
    here.turns(60)
    assert here.state("b-0") is State.STOPPED
    assert here.state("a-0") is State.READY
    assert reserved_mib(here)["a-0"] >= 6000
