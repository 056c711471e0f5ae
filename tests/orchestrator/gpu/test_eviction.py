"""Which models come and go when not all of them fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestrator.gpu.decisions import CannotLoad, Decision, LoadNow, MakeRoom, Resident, Wait, Wish
from orchestrator.gpu.eviction import Policy, cost_s, decide, idle_too_long, unload_at
from orchestrator.gpu.places import Demand, Device
from orchestrator.terminal.sizes import GIB

NOW = 10_000.0
POLICY = Policy(max_wait_s=30, min_stay_s=10, stay_per_load=2)


def card(free_gib: float, uuid: str = "GPU-0", index: int = 0) -> Device:
    return Device(uuid, index, "H200", 140 * GIB, int(free_gib * GIB))


def resident(model: str, gib: float, idle_s: float = 600, **more: Any) -> Resident:
    defaults = {"loaded_at": NOW - 3600, "last_used_at": NOW - idle_s, "load_s": 20.0}
    return Resident(model, {"GPU-0": int(gib * GIB)}, **defaults | more)


def wish(model: str, gib: float, waited_s: float = 0.0) -> Wish:
    demand = Demand(f"{model}-0", model, 1, int(gib * GIB))
    return Wish(model, (demand,), NOW - waited_s)


def decision(wanted: Wish, residents: list[Resident], *cards: Device, now: float = NOW) -> Decision:
    (only,) = decide([wanted], residents, cards or [card(0)], now, POLICY)
    return only


def test_where_there_is_room_nobody_goes() -> None:
    assert decision(wish("b", 20), [resident("a", 90)], card(30)) == LoadNow("b")


def test_an_idle_model_makes_room() -> None:
    assert decision(wish("b", 50), [resident("a", 90)]) == MakeRoom("b", ("a",))


def test_a_sleeper_does_not_go_for_itself() -> None:
    asleep, idle = resident("a", 5, idle_unload_s=None), resident("b", 90)
    assert decision(wish("a", 50), [asleep, idle], card(48)) == MakeRoom("a", ("b",))
    assert isinstance(decision(wish("a", 50), [asleep], card(48)), CannotLoad)


@pytest.mark.parametrize("fact", [{"is_pinned": True}, {"is_on_demand": False}])
def test_pinned_and_always_loaded_models_never_go(fact: dict[str, bool]) -> None:
    found = decision(wish("b", 50, waited_s=9999), [resident("a", 90, **fact)])
    assert isinstance(found, CannotLoad)
    assert "`b` needs 50.0 GiB on one GPU" in str(found.refusals[0])


def test_one_that_is_at_work_stays_until_somebody_has_waited_too_long() -> None:
    busy = resident("a", 90, idle_s=0, running=3, waiting=7)
    patient = decision(wish("b", 50, waited_s=10), [busy])
    assert patient == Wait("b", "`a` stays for now")
    assert decision(wish("b", 50, waited_s=30), [busy]) == MakeRoom("b", (), drained=("a",))


def test_one_with_nothing_but_a_queue_goes_only_for_one_that_has_waited_too_long() -> None:
    queued = resident("a", 90, idle_s=0, waiting=7)
    assert isinstance(decision(wish("b", 50, waited_s=10), [queued]), Wait)
    assert decision(wish("b", 50, waited_s=30), [queued]) == MakeRoom("b", ("a",))


def test_one_that_has_just_been_loaded_stays_whoever_waits() -> None:
    new = resident("a", 90, loaded_at=NOW - 39, load_s=20.0)
    found = decision(wish("b", 50, waited_s=9999), [new])
    assert found == Wait("b", "`a` stays for now")
    assert decision(wish("b", 50), [new], now=NOW + 1) == MakeRoom("b", ("a",))


def test_the_one_that_is_idle_longest_and_loads_fastest_goes() -> None:
    residents = [
        resident("recent", 40, idle_s=5),
        resident("slow", 40, idle_s=600, load_s=200.0),
        resident("cheap", 40, idle_s=600),
    ]
    assert decision(wish("b", 30), residents) == MakeRoom("b", ("cheap",))


def test_nobody_goes_who_is_not_needed() -> None:
    residents = [resident("small", 5, idle_s=9999), resident("large", 60)]
    assert decision(wish("b", 50), residents) == MakeRoom("b", ("large",))


def test_one_dear_model_goes_rather_than_two_that_cost_more_together() -> None:
    residents = [
        resident("one", 60, load_s=25.0),
        resident("two", 30, load_s=20.0),
        resident("three", 30, load_s=20.0),
    ]
    assert decision(wish("b", 55), residents) == MakeRoom("b", ("one",))


def test_room_that_is_being_made_is_waited_for() -> None:
    leaving = resident("a", 90, is_leaving=True)
    assert decision(wish("b", 50), [leaving, resident("c", 50)]) == Wait("b", "`a` makes room")


def test_room_that_is_being_made_for_one_is_not_given_to_another() -> None:
    residents = [resident("a", 60, is_leaving=True), resident("c", 60)]
    first, second = decide(
        [wish("x", 50, 20), wish("y", 50, 10)], residents, [card(0)], NOW, POLICY
    )
    assert first == Wait("x", "`a` makes room")
    assert second == MakeRoom("y", ("c",))


def test_free_room_is_used_while_a_large_one_waits_but_not_for_ever() -> None:
    busy = resident("a", 120, idle_s=0, running=1, loaded_at=NOW - 1, load_s=60.0)
    large, small = wish("large", 100, 20), wish("small", 10, 1)
    decisions = decide([small, large], [busy], [card(20)], NOW, POLICY)
    assert [type(each) for each in decisions] == [Wait, LoadNow]
    starving = wish("large", 100, 40)
    decisions = decide([small, starving], [busy], [card(20)], NOW, POLICY)
    assert decisions[1] == Wait("small", "`large` has waited longer")


def test_one_that_can_never_fit_holds_nobody_up() -> None:
    decisions = decide(
        [wish("huge", 500, 99), wish("b", 10, 1)], [resident("a", 90)], [card(0)], NOW, POLICY
    )
    assert [type(each) for each in decisions] == [CannotLoad, MakeRoom]


def test_idle_models_are_unloaded_after_their_time() -> None:
    due = resident("due", 1, idle_s=61, idle_unload_s=60)
    others = [
        resident("early", 1, idle_s=59, idle_unload_s=60),
        resident("busy", 1, idle_s=61, idle_unload_s=60, running=1),
        resident("queued", 1, idle_s=61, idle_unload_s=60, waiting=1),
        resident("pinned", 1, idle_s=61, idle_unload_s=60, is_pinned=True),
        resident("always", 1, idle_s=61, idle_unload_s=60, is_on_demand=False),
        resident("unlimited", 1, idle_s=61),
        resident("new", 1, idle_s=61, idle_unload_s=60, loaded_at=NOW - 5),
        resident("loading", 1, idle_s=61, idle_unload_s=60, loaded_at=None),
    ]
    assert idle_too_long([due, *others], NOW) == ["due"]
    assert unload_at(others[0]) == NOW + 1
    assert unload_at(others[6]) == NOW + 55


def test_a_model_gets_cheaper_to_unload_the_longer_it_is_idle() -> None:
    costs = [cost_s(resident("a", 1, idle_s=idle), NOW) for idle in (0, 60, 600)]
    assert costs[0] == 20
    assert costs[1] == 10
    assert costs[2] < 2


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Wish], list[Resident], list[Device]]:
    gpus = [card(draw(st.integers(0, 60)), f"GPU-{index}", index) for index in range(2)]
    residents = [
        Resident(
            f"r{number}",
            {draw(st.sampled_from(["GPU-0", "GPU-1"])): draw(st.integers(1, 80)) * GIB},
            loaded_at=draw(st.one_of(st.none(), st.floats(NOW - 300, NOW))),
            last_used_at=draw(st.floats(NOW - 300, NOW)),
            load_s=draw(st.floats(1, 60)),
            running=draw(st.integers(0, 2)),
            waiting=draw(st.integers(0, 2)),
            is_on_demand=draw(st.booleans()),
            is_pinned=draw(st.booleans()),
            is_leaving=draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 5)))
    ]
    wishes = [
        wish(f"w{number}", draw(st.integers(1, 140)), draw(st.floats(0, 60)))
        for number in range(draw(st.integers(1, 3)))
    ]
    return wishes, residents, gpus


@settings(max_examples=400, deadline=None)
@given(situations())
def test_no_decision_ever_breaks_a_promise(
    situation: tuple[list[Wish], list[Resident], list[Device]],
) -> None:
    wishes, residents, gpus = situation
    by_name = {each.model: each for each in residents}
    decisions = decide(wishes, residents, gpus, NOW, POLICY)
    assert decisions == decide(wishes[::-1], residents, gpus, NOW, POLICY)
    waited = {each.model: NOW - each.since for each in wishes}
    for found in decisions:
        if not isinstance(found, MakeRoom):
            continue
        for model in found.unloaded + found.drained:
            gone = by_name[model]
            assert gone.is_on_demand
            assert not gone.is_pinned
            assert not gone.is_leaving
            assert gone.loaded_at is not None
            assert gone.loaded_at + max(10, 2 * gone.load_s) <= NOW
            assert gone.is_idle or waited[found.model] >= POLICY.max_wait_s
            assert (model in found.drained) == bool(gone.running)


@settings(max_examples=400, deadline=None)
@given(situations())
def test_everything_that_is_loaded_or_made_room_for_fits_together(
    situation: tuple[list[Wish], list[Resident], list[Device]],
) -> None:
    wishes, residents, gpus = situation
    room = sum(gpu.free_bytes for gpu in gpus)
    gone = {each.model for each in residents if each.is_leaving}
    taken = 0
    for found in decide(wishes, residents, gpus, NOW, POLICY):
        if isinstance(found, MakeRoom):
            gone |= {*found.unloaded, *found.drained}
        if isinstance(found, MakeRoom | LoadNow):
            (demand,) = next(each.demands for each in wishes if each.model == found.model)
            taken += demand.fixed_bytes
    room += sum(sum(each.bytes_by_gpu.values()) for each in residents if each.model in gone)
    assert taken <= room


LOAD_S, DRAIN_S = 8.0, 3.0


@dataclass
class Fleet:
    """Models that each need the whole card, requests that come when they come, and a clock."""

    names: tuple[str, ...]
    now: float = NOW
    loaded: str = ""
    loaded_at: float | None = None
    loading_until: float | None = None
    draining_until: float | None = None
    last_used: float = NOW
    waiting: dict[str, list[float]] = field(default_factory=dict)
    worst_wait_s: float = 0.0
    loads: int = 0

    def request(self, model: str) -> None:
        self.waiting.setdefault(model, []).append(self.now)

    def step(self, seconds: float) -> None:
        self.now += seconds
        if self.loading_until is not None and self.now >= self.loading_until:
            self.loaded_at, self.loading_until = self.loading_until, None
        if self.draining_until is not None and self.now >= self.draining_until:
            self.loaded, self.loaded_at, self.draining_until = "", None, None
        if self.loaded_at is not None and self.draining_until is None:
            self._serve()
        self._decide()

    def _serve(self) -> None:
        for since in self.waiting.pop(self.loaded, []):
            self.worst_wait_s = max(self.worst_wait_s, self.now - since)
            self.last_used = self.now

    def _decide(self) -> None:
        whole = 100 * GIB
        residents = []
        if self.loaded:
            residents = [
                Resident(
                    self.loaded,
                    {"GPU-0": whole},
                    loaded_at=self.loaded_at,
                    last_used_at=self.last_used,
                    load_s=LOAD_S,
                    waiting=len(self.waiting.get(self.loaded, ())),
                    is_leaving=self.draining_until is not None,
                )
            ]
        wishes = [
            Wish(model, (Demand(f"{model}-0", model, 1, whole),), min(since))
            for model, since in self.waiting.items()
            if model != self.loaded or self.draining_until is not None
        ]
        free = card(0 if self.loaded else 100)
        for found in decide(wishes, residents, [free], self.now, POLICY):
            if isinstance(found, LoadNow) and not self.loaded:
                self.loaded, self.loading_until = found.model, self.now + LOAD_S
                self.loads += 1
            elif isinstance(found, MakeRoom):
                self.draining_until = self.now + DRAIN_S


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=20, max_size=120), st.floats(0.5, 8))
def test_nobody_starves_and_nobody_thrashes(arrivals: list[str], pace_s: float) -> None:
    assume(len(set(arrivals)) > 1)
    fleet = Fleet(("a", "b", "c"))
    began = fleet.now
    for model in arrivals:
        fleet.request(model)
        fleet.step(pace_s)
    while fleet.waiting:
        fleet.step(1.0)
        assert fleet.now - began < 3600, f"nobody serves {fleet.waiting}"
    # Each model that waits longer goes first: it waits, the present one drains, it loads, stays.
    turn_s = POLICY.max_wait_s + DRAIN_S + LOAD_S + 2 * LOAD_S + 3 * max(1.0, pace_s)
    assert fleet.worst_wait_s <= 3 * turn_s
    elapsed_s = fleet.now - began
    assert fleet.loads <= 1 + elapsed_s / (LOAD_S + 2 * LOAD_S)


def test_two_models_in_turn_do_not_swap_on_each_request() -> None:
    fleet = Fleet(("a", "b"))
    for _ in range(60):
        for model in "ab":
            fleet.request(model)
            fleet.step(1.0)
    assert fleet.loads <= 5
