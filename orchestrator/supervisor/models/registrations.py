"""Registrations: why a model does not serve yet, for gateways whose clients wait for it."""

from __future__ import annotations

import time

from contract.bus.registration import Registration
from contract.messages import State
from orchestrator.protocol.life import Goal
from orchestrator.supervisor.models.model import Model


def registration_of(model: Model) -> Registration:
    """Return why a model does not serve yet, or will not, and in how many seconds it may. Empty if
    it serves."""
    unit = next((each for each in model.units if each.state is not State.READY), None)
    if model.is_loaded or unit is None:
        return Registration()
    if model.problem:
        return Registration(problem=model.problem.message)
    child = unit.child
    is_woken = child is not None and (unit.is_asleep or child.is_woken)
    takes_s = model.times.wake_s if is_woken else model.times.load_s
    if child is None or unit.is_asleep or unit.goal is not Goal.RUN:
        reason = model.request.waits_for if model.request else ""
        is_elsewhere = model.request is not None and model.request.is_elsewhere
        waits_for = f"waiting: {reason}" if reason else unit.stage
        return Registration(waits_for or "waiting for its turn", takes_s, is_elsewhere=is_elsewhere)
    spent_s = time.monotonic() - child.began_at
    eta_s = None if takes_s is None else max(0.0, round(takes_s - spent_s, 1))
    # Clients that wait are told no state beside it.
    return Registration(f"loading: {unit.stage}" if unit.stage else "loading", eta_s)
