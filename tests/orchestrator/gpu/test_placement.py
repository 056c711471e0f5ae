"""Where workers go: in the case at hand, and in every case."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.gpu.placement import place
from orchestrator.gpu.places import Assignment, Demand, Device, Holder, Placement
from orchestrator.terminal.sizes import GIB, MIB


def gpu(index: int, free_gib: float = 80, total_gib: float = 80, **more: Any) -> Device:
    defaults = {"uuid": f"GPU-{index}", "name": "A100"}
    return Device(
        index=index,
        total_bytes=int(total_gib * GIB),
        free_bytes=int(free_gib * GIB),
        **defaults | more,
    )


def demand(
    slot: str, fixed_gib: float, least_gib: float = 0, wanted_gib: float = 0, **more: Any
) -> Demand:
    return Demand(
        slot=slot,
        model=slot.rpartition("-")[0],
        gpus=more.pop("gpus", 1),
        fixed_bytes=int(fixed_gib * GIB),
        least_kv_bytes=int(least_gib * GIB),
        wanted_kv_bytes=int(max(least_gib, wanted_gib) * GIB),
        **more,
    )


def where(placement: Placement) -> dict[str, tuple[str, ...]]:
    return {each.slot: each.uuids for each in placement.assignments}


def test_a_worker_takes_the_gpu_with_the_least_room_that_holds_it() -> None:
    placement = place([demand("a-0", 20)], [gpu(0, 80), gpu(1, 30), gpu(2, 10)])
    assert where(placement) == {"a-0": ("GPU-1",)}
    assert placement.assignments[0].why == "GPU 1: the least room of 2 that hold it"


def test_two_models_share_a_gpu_and_what_is_left_is_shared_fairly() -> None:
    placement = place([demand("a-0", 20, 2, 30), demand("b-0", 10, 2, 30)], [gpu(0)])
    shares = {each.slot: each.kv_cache_bytes for each in placement.assignments}
    assert shares == {"a-0": 25 * GIB, "b-0": 25 * GIB}


def test_models_that_want_much_get_a_gpu_of_their_own() -> None:
    placement = place([demand("a-0", 20, 2, 50), demand("b-0", 20, 2, 50)], [gpu(0), gpu(1)])
    assert where(placement) == {"a-0": ("GPU-0",), "b-0": ("GPU-1",)}
    assert all(each.kv_cache_bytes == 50 * GIB for each in placement.assignments)


def test_replicas_go_to_different_gpus_first() -> None:
    replicas = [demand(f"a-{number}", 10) for number in range(3)]
    placement = place(replicas, [gpu(0), gpu(1)])
    assert where(placement) == {"a-0": ("GPU-0",), "a-1": ("GPU-1",), "a-2": ("GPU-0",)}
    more = place([demand("a-3", 10)], [gpu(0, 40), gpu(1, 60)], at_work={"a": ["GPU-0"]})
    assert where(more) == {"a-3": ("GPU-1",)}


def test_gpus_that_share_a_model_are_of_one_kind() -> None:
    devices = [
        gpu(0, 40, 40, name="A40"),
        gpu(1, 60),
        gpu(2, 70),
        gpu(3, 45, 48, name="L40"),
    ]
    placement = place([demand("a-0", 30, gpus=2)], devices)
    assert where(placement) == {"a-0": ("GPU-1", "GPU-2")}
    mixed = place([demand("a-0", 30, gpus=3)], devices)
    assert len(where(mixed)["a-0"]) == 3


def test_large_sets_choose_before_small_workers_can_be_in_their_way() -> None:
    placement = place([demand("s-0", 30), demand("l-0", 60, gpus=2)], [gpu(0), gpu(1), gpu(2, 50)])
    assert where(placement) == {"l-0": ("GPU-0", "GPU-1"), "s-0": ("GPU-2",)}


@pytest.mark.parametrize("pin", [1, "1", "GPU-1", "GPU-1-more-or-less"[:5]])
def test_pins_are_obeyed(pin: int | str) -> None:
    placement = place([demand("a-0", 10, pins=(pin,))], [gpu(0), gpu(1), gpu(2)])
    assert where(placement) == {"a-0": ("GPU-1",)}


def test_a_pin_to_a_gpu_that_is_full_is_refused_though_others_are_free() -> None:
    placement = place([demand("a-0", 50, pins=(0,))], [gpu(0, 10), gpu(1)])
    assert not placement.assignments
    text = str(placement.refusals[0])
    assert "GPU 0: 10.0 GiB free of 80.0 GiB" in text
    assert "GPU 1: is not among the model's `gpus`" in text


def test_slices_are_places_of_their_own_and_never_share_a_model() -> None:
    slices = [gpu(0, 20, 20, uuid=f"MIG-{name}", parent="GPU-0") for name in "ab"]
    placement = place([demand("a-0", 10), demand("b-0", 15)], slices)
    assert where(placement) == {"a-0": ("MIG-b",), "b-0": ("MIG-a",)}
    refused = place([demand("c-0", 10, gpus=2)], slices)
    assert "slices cannot share a model" in str(refused.refusals[0])


def test_a_gpu_in_trouble_is_left_alone() -> None:
    placement = place([demand("a-0", 10)], [gpu(0, problem="has fallen off the bus")])
    assert "GPU 0: has fallen off the bus" in str(placement.refusals[0])


def test_a_refusal_says_what_is_needed_what_is_free_and_who_has_the_rest() -> None:
    holders = (Holder("llama-0", 70 * GIB), Holder("python (pid 42, user ann)", 6 * GIB))
    refused = place([demand("big-0", 14, 2)], [gpu(0, 3.5, holders=holders)]).refusals[0]
    assert str(refused) == (
        "`big` needs 16.0 GiB on one GPU\n"
        "  GPU 0: 3.5 GiB free of 80.0 GiB (llama-0 70.0 GiB, python (pid 42, user ann) 6.0 GiB)"
    )


def test_one_that_cannot_fit_does_not_make_the_others_smaller() -> None:
    placement = place([demand("huge-0", 500), demand("a-0", 10, 1, 60)], [gpu(0)])
    assert [each.slot for each in placement.refusals] == ["huge-0"]
    assert placement.assignments[0].kv_cache_bytes == 60 * GIB


def test_a_refusal_counts_only_the_least_of_those_who_fit() -> None:
    placement = place([demand("a-0", 40, 1, 40), demand("b-0", 41)], [gpu(0)])
    assert "a-0" in where(placement) or "b-0" in where(placement)
    assert "GiB free of 80.0 GiB" in str(placement.refusals[0])


def test_room_that_is_to_be_kept_free_is_used_only_when_it_must_be() -> None:
    kept = {"GPU-0": 30 * GIB}
    generous = place([demand("a-0", 20, 2, 60)], [gpu(0)], keep_free=kept)
    assert generous.assignments[0].kv_cache_bytes == 30 * GIB
    tight = place([demand("a-0", 60, 2, 60)], [gpu(0)], keep_free=kept)
    assert tight.assignments[0].kv_cache_bytes == 2 * GIB


def test_the_engine_gets_exact_bytes_and_a_fraction_that_is_free() -> None:
    wish = demand("a-0", 10, 2, 20, context_bytes=GIB)
    found = place([wish], [gpu(0)]).assignments[0]
    assert found.bytes_by_gpu == {"GPU-0": 30 * GIB}
    assert found.kv_cache_bytes == 20 * GIB
    assert found.gpu_memory_fraction == 0.3625
    assert found.environment() == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-0",
    }
    assert found.environment(by_uuid=False)["CUDA_VISIBLE_DEVICES"] == "0"


def test_the_users_fraction_is_reserved_and_handed_on() -> None:
    wish = demand("a-0", 10, 2, 20, context_bytes=GIB, fraction=0.5)
    found = place([wish], [gpu(0)]).assignments[0]
    assert found.bytes_by_gpu == {"GPU-0": 41 * GIB}
    assert (found.kv_cache_bytes, found.gpu_memory_fraction) == (None, 0.5)


def test_without_gpus_everything_is_refused() -> None:
    assert "there is no GPU" in str(place([demand("a-0", 1)], []).refusals[0])


amounts = st.integers(0, 90 * 1024).map(lambda mib: mib * MIB)


@st.composite
def cards(draw: st.DrawFn) -> list[Device]:
    count = draw(st.integers(0, 5))
    totals = draw(st.lists(st.sampled_from([24, 80]), min_size=count, max_size=count))
    return [
        gpu(index, min(total, draw(amounts) / GIB), total, name=f"{total} GiB")
        for index, total in enumerate(totals)
    ]


@st.composite
def workers(draw: st.DrawFn) -> list[Demand]:
    found = []
    for number in range(draw(st.integers(0, 6))):
        least = draw(amounts) // 8
        found.append(
            Demand(
                slot=f"m{number % 3}-{number}",
                model=f"m{number % 3}",
                gpus=draw(st.sampled_from([1, 1, 1, 2, 3])),
                fixed_bytes=GIB + draw(amounts) // 2,
                least_kv_bytes=least,
                wanted_kv_bytes=least + draw(amounts),
                context_bytes=512 * MIB,
                fraction=draw(st.sampled_from([None, None, None, 0.3])),
                pins=draw(st.sampled_from([(), (), (0,), (1, 2)])),
            )
        )
    return found


def taken(placement: Placement) -> dict[str, int]:
    total: dict[str, int] = {}
    for assignment in placement.assignments:
        for uuid, size in assignment.bytes_by_gpu.items():
            total[uuid] = total.get(uuid, 0) + size
    return total


@settings(max_examples=400, deadline=None)
@given(workers(), cards())
def test_no_gpu_is_ever_promised_more_than_it_has(
    demands: list[Demand], devices: list[Device]
) -> None:
    free = {device.uuid: device.free_bytes for device in devices}
    assert all(size <= free[uuid] for uuid, size in taken(place(demands, devices)).items())


@settings(max_examples=400, deadline=None)
@given(workers(), cards())
def test_everybody_is_placed_or_refused_and_placed_well(
    demands: list[Demand], devices: list[Device]
) -> None:
    placement = place(demands, devices)
    by_slot = {each.slot: each for each in demands}
    placed = [each.slot for each in placement.assignments]
    refused = [each.slot for each in placement.refusals]
    assert sorted(placed + refused) == sorted(by_slot)
    for assignment in placement.assignments:
        _check(assignment, by_slot[assignment.slot], devices)


def _check(assignment: Assignment, wish: Demand, devices: list[Device]) -> None:
    assert len(set(assignment.uuids)) == wish.gpus
    on = [device for device in devices if device.uuid in assignment.uuids]
    assert not wish.pins or all(device.index in wish.pins for device in on)
    assert assignment.gpu_memory_fraction is not None
    for device in on:
        inside = assignment.bytes_by_gpu[device.uuid] - wish.context_bytes
        assert assignment.gpu_memory_fraction * device.total_bytes <= inside + 1
    if wish.fraction is None:
        cache = assignment.kv_cache_bytes or 0
        assert wish.least_kv_bytes <= cache <= wish.wanted_kv_bytes


@settings(max_examples=200, deadline=None)
@given(workers(), cards(), st.randoms())
def test_the_order_of_the_question_does_not_matter(
    demands: list[Demand], devices: list[Device], random: Any
) -> None:
    first = place(demands, devices)
    shuffled = random.sample(demands, len(demands))
    assert place(shuffled, random.sample(devices, len(devices))) == first


@settings(max_examples=200, deadline=None)
@given(workers(), cards())
def test_a_gpu_that_comes_free_takes_no_place_away(
    demands: list[Demand], devices: list[Device]
) -> None:
    """A single worker that fits still fits when there is one more GPU."""
    for wish in demands:
        if place([wish], devices).assignments:
            assert place([wish], [*devices, gpu(9, 5)]).assignments
