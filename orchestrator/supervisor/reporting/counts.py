"""Counts of what happened to models and processes of this host, for its metrics."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from contract.host_beat import HostBeat
from orchestrator.supervisor.models.model import Model
from orchestrator.supervisor.units.unit import Unit


def with_counts(beat: HostBeat, models: Iterable[Model], units: Iterable[Unit]) -> HostBeat:
    """Return a heartbeat that says how often models came and went, and processes were started
    again."""
    return msgspec.structs.replace(
        beat,
        residency={model.id: model.residency for model in models},
        restarts={unit.slot: unit.restarts.count for unit in units},
    )
