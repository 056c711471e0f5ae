"""The outlook of models, as lines for a terminal of 80 columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Final

from orchestrator.estimate.estimate import Estimate
from orchestrator.estimate.kv_cache import KvCache
from orchestrator.gpu.demand import Need
from orchestrator.gpu.reservation import Reservation
from orchestrator.gpu.what_if.what_if import WhatIf
from orchestrator.terminal.sizes import show

_WIDTH: Final = 80
#: A command is not broken, so that it can be copied.
_CODE: Final = re.compile(r"`\./ew [^`]{,60}`")
_KEPT: Final = "\x00"


def lines_of(one: WhatIf) -> Iterator[str]:
    """Yield a model's need part by part, then its place."""
    yield f"{one.model_id} ({one.engine})"
    if one.error:
        yield from _wrapped(f"not known: {one.error}")
        yield from _wrapped(one.hint)
    elif one.need is None:
        yield "  takes no GPU memory"
    else:
        yield from _need(one.need)
        yield from _places(one)


def _need(need: Need) -> Iterator[str]:
    cache = need.estimate.kv_cache
    for part in need.estimate.parts:
        yield _row(part.name, show(part.size_bytes), part.how)
    if cache.wanted_bytes:
        yield from _cache(cache)
    yield _row("in all", show(need.estimate.least_bytes), f"at least, {_on_how_many(need)}")
    if cache.wanted_bytes > cache.least_bytes:
        yield _row("", show(need.estimate.wanted_bytes), "as wanted")
    if need.estimate.fraction is not None:
        yield f"  `gpu_memory_utilization` {need.estimate.fraction} decides instead"
    if need.footprint is not None:
        took = f"beside its KV cache when it ran; it was ready in {need.footprint.load_s:.0f} s"
        yield _row("measured", show(need.footprint.fixed_bytes), took)
    yield from _reading(need.estimate)
    for note in need.estimate.notes:
        yield from _wrapped(f"note: {note}")


def _reading(estimate: Estimate) -> Iterator[str]:
    """Yield whose reading of the model's files it is, and of ew's own why."""
    said = "" if estimate.source == "ew" else f"as {estimate.source} has"
    if said and not estimate.own_reading:
        yield f"  context and layers {said} them"
    elif estimate.own_reading:
        what = f"context {said} it, layers" if said else "context and layers"
        yield from _wrapped(f"{what} as ew reads the files: {estimate.own_reading}")


def _cache(cache: KvCache) -> Iterator[str]:
    each = f"{cache.context_len} tokens of {show(cache.bytes_per_token)}"
    yield _row("KV cache", show(cache.least_bytes), f"at least: one sequence, {each}")
    yield _row("", show(cache.wanted_bytes), f"wanted: {cache.sequences} such sequences")
    if cache.state_bytes:
        yield _row("states", show(cache.state_bytes), "of it, for each sequence, however long")


def _on_how_many(need: Need) -> str:
    gpus = need.estimate.gpus
    where = "on one GPU" if gpus == 1 else f"on each of {gpus} GPUs"
    replicas = need.model.replicas
    return where if replicas == 1 else f"{where}, for each of {replicas} workers"


def _places(one: WhatIf) -> Iterator[str]:
    for reservation in one.reservations:
        yield from _wrapped(f"{reservation.slot} {_present(reservation)}")
    for assignment in one.assignments:
        size = show(max(assignment.bytes_by_gpu.values()))
        yield from _wrapped(f"{assignment.slot} would take {size} on {assignment.why}")
    for refusal in one.refusals:
        first, *rest = str(refusal).splitlines()
        yield from _wrapped(f"{refusal.slot} cannot be placed: {first}")
        for line in rest:
            yield from _wrapped(line.strip(), indent=4)


def _present(own: Reservation) -> str:
    names = ", ".join(f"GPU {index}" for index in own.assignment.indices)
    has = show(max(own.used_bytes.values(), default=0))
    of = show(max(own.reserved_bytes.values()))
    return f"is {own.stage} on {names} and has {has} of the {of} reserved"


def _row(name: str, size: str, how: str) -> str:
    return f"  {name:<12} {size:>9}  {how}"


def _wrapped(text: str, indent: int = 2) -> list[str]:
    margin = " " * indent
    lines = textwrap.wrap(
        _CODE.sub(lambda code: code[0].replace(" ", _KEPT), text),
        _WIDTH,
        initial_indent=margin,
        subsequent_indent=f"{margin}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_KEPT, " ") for line in lines]
