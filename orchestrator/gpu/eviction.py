"""Which models come and go when not all of them fit. Pure functions of what is loaded, what is
asked for and the time: they decide, the supervisor acts, and asks again when something changed.

A pinned or `always` model never goes for another, and no running answer is lost. Two
rules keep models from chasing each other away: one that has been loaded stays for a while, and a
busy one goes only when a request has waited too long, after it had time to finish.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from orchestrator.gpu.decisions import (
    CannotLoad,
    Decision,
    LoadNow,
    MakeRoom,
    Resident,
    Wait,
    Wish,
)
from orchestrator.gpu.placement import place
from orchestrator.gpu.places import Device, Placement

#: After this long without a request it is half as likely that the next one comes soon.
_HALF_LIFE_S: Final = 60.0


class Policy(msgspec.Struct, frozen=True):
    """How patient the models are with each other."""

    #: A request that has waited so long for its model makes busy ones finish and go.
    max_wait_s: float = 30.0
    #: A model stays loaded at least so long, and so many times what its load took.
    min_stay_s: float = 10.0
    stay_per_load: float = 2.0


def decide(
    wishes: Iterable[Wish],
    residents: Sequence[Resident],
    devices: Sequence[Device],
    now: float,
    policy: Policy | None = None,
) -> list[Decision]:
    """Return what to do for each model that requests wait for, the longest wait first.

    While the first cannot have its room yet, others may only use what is free; once it has waited
    too long, not even that: small models would otherwise keep a large one out for ever.
    """
    room = _Room(residents, devices, now, policy or Policy())
    in_turn = sorted(wishes, key=lambda each: (each.since, each.model))
    return [room.decide(wish) for wish in in_turn]


def idle_too_long(residents: Iterable[Resident], now: float) -> list[str]:
    """Return the models whose `idle_unload_s` has passed without a request."""
    return [
        resident.model
        for resident in residents
        if (at := unload_at(resident)) is not None and at <= now
    ]


def unload_at(resident: Resident) -> float | None:
    """Return when a model is to be unloaded if no request comes; None if it stays, or is at
    work."""
    if resident.idle_unload_s is None or not resident.may_go or not resident.is_idle:
        return None
    if resident.loaded_at is None:
        return None
    return max(resident.last_used_at, resident.loaded_at) + resident.idle_unload_s


def cost_s(resident: Resident, now: float) -> float:
    """Return what it costs to unload a model: the time to load it again, weighed by how likely
    that is soon."""
    idle_s = max(0.0, now - resident.last_used_at)
    return resident.load_s / (1 + idle_s / _HALF_LIFE_S)


class _Room:
    """The memory that is free and could be, while one decision after the other is taken."""

    def __init__(
        self, residents: Sequence[Resident], devices: Sequence[Device], now: float, policy: Policy
    ) -> None:
        #: As they are, and with what decisions of this round have taken.
        self._untouched = list(devices)
        self._devices = list(devices)
        self._residents = list(residents)
        self._now = now
        self._policy = policy
        #: The first model that cannot have its room yet, and whether it has waited too long.
        self._first = ""
        self._is_first_starving = False

    def decide(self, wish: Wish) -> Decision:
        placement = self._place(wish, ())
        if not placement.refusals and not self._is_first_starving:
            self._take(placement)
            return LoadNow(wish.model)
        return self._find_room(wish)

    def _find_room(self, wish: Wish) -> Decision:
        others = (each for each in self._residents if each.model != wish.model)
        movable = [each for each in others if each.may_go]
        leaving = [each for each in self._residents if each.is_leaving]
        best_case = place(wish.demands, _freed(self._untouched, leaving + movable))
        if best_case.refusals:
            return CannotLoad(wish.model, best_case.refusals)
        if self._first:
            return Wait(wish.model, f"`{self._first}` has waited longer")
        placement = self._place(wish, leaving)
        if not placement.refusals:
            self._take(placement)
            return Wait(wish.model, f"{_names(leaving)} makes room")
        chosen = self._whom_to_unload(wish, movable, leaving)
        if chosen:
            return self._make_room(wish, chosen, leaving)
        self._first, self._is_first_starving = wish.model, self._is_starving(wish)
        reason = f"{_names(movable)} stays for now" if movable else "another is loaded first"
        return Wait(wish.model, reason)

    def _whom_to_unload(
        self, wish: Wish, movable: list[Resident], leaving: list[Resident]
    ) -> list[Resident]:
        settled = [each for each in movable if self._stays_until(each) <= self._now]
        idle = [each for each in settled if each.is_idle]
        chosen = self._cheapest(wish, idle, leaving)
        if not chosen and self._is_starving(wish):
            chosen = self._cheapest(wish, settled, leaving)
        return chosen

    def _make_room(self, wish: Wish, chosen: list[Resident], leaving: list[Resident]) -> MakeRoom:
        self._take(self._place(wish, leaving + chosen))
        self._residents = [
            msgspec.structs.replace(each, is_leaving=True) if each in chosen else each
            for each in self._residents
        ]
        return MakeRoom(
            wish.model,
            unloaded=tuple(each.model for each in chosen if not each.running),
            drained=tuple(each.model for each in chosen if each.running),
        )

    def _cheapest(
        self, wish: Wish, candidates: list[Resident], leaving: list[Resident]
    ) -> list[Resident]:
        """Return the models to unload: none that is not needed; and one alone, if that costs
        less."""
        if self._place(wish, leaving + candidates).refusals:
            return []
        dearest_first = sorted(candidates, key=self._cost, reverse=True)
        chosen = list(candidates)
        for each in dearest_first:
            rest = [other for other in chosen if other is not each]
            if not self._place(wish, leaving + rest).refusals:
                chosen = rest
        alone = [each for each in candidates if not self._place(wish, [*leaving, each]).refusals]
        sets = [chosen, *([each] for each in alone)]
        return min(sets, key=lambda group: sum(self._cost(each)[0] for each in group))

    def _cost(self, resident: Resident) -> tuple[float, int, str]:
        size = sum(resident.bytes_by_gpu.values())
        return cost_s(resident, self._now), size, resident.model

    def _place(self, wish: Wish, gone: Iterable[Resident]) -> Placement:
        """Return the placement of a model if these were gone."""
        return place(wish.demands, _freed(self._devices, gone))

    def _take(self, placement: Placement) -> None:
        for assignment in placement.assignments:
            self._devices = [
                msgspec.structs.replace(
                    each, free_bytes=each.free_bytes - assignment.bytes_by_gpu.get(each.uuid, 0)
                )
                for each in self._devices
            ]

    def _is_starving(self, wish: Wish) -> bool:
        return self._now - wish.since >= self._policy.max_wait_s

    def _stays_until(self, resident: Resident) -> float:
        if resident.loaded_at is None:
            return float("inf")
        stay_s = max(self._policy.min_stay_s, self._policy.stay_per_load * resident.load_s)
        return resident.loaded_at + stay_s


def _freed(devices: Iterable[Device], gone: Iterable[Resident]) -> list[Device]:
    """Return the GPUs if these models were gone."""
    gained: dict[str, int] = {}
    for resident in gone:
        for uuid, size in resident.bytes_by_gpu.items():
            gained[uuid] = gained.get(uuid, 0) + size
    return [
        msgspec.structs.replace(each, free_bytes=each.free_bytes + gained.get(each.uuid, 0))
        for each in devices
    ]


def _names(residents: Iterable[Resident]) -> str:
    return ", ".join(f"`{each.model}`" for each in residents)
