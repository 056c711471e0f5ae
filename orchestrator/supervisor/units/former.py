"""The former processes of a gateway: they serve on though the one that started them has died."""

from __future__ import annotations

import logging
import signal
from typing import Final

from orchestrator.protocol.life import Phase
from orchestrator.protocol.specs import GatewaySpec
from orchestrator.supervisor.units.child import Child
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.marks import marked, signal_exactly

log = logging.getLogger(__name__)
#: Others serve: what is connected is served to its end.
_RELIEVE: Final = (signal.SIGTERM,)
#: Everything stops: open answers have the configured time (`REPLACED` in `gateway.lifecycle`).
_DRAIN: Final = (signal.SIGUSR2, signal.SIGTERM)
_HURRY: Final = (signal.SIGQUIT,)


def is_survived(unit: Unit) -> bool:
    """Return whether the processes that a unit's own has started may go on without it. Of a
    gateway that stops, they finish their answers."""
    is_gateway = isinstance(unit.spec, GatewaySpec)
    serves = unit.phase is Phase.READY or unit.is_leaving or bool(unit.orphans)
    was_killed = unit.child is not None and bool(unit.child.kill_reason)
    return is_gateway and serves and not was_killed


def is_seen_off(unit: Unit) -> bool:
    """Return whether a unit has stopped, but for former processes that finish their answers."""
    return unit.child is None and bool(unit.orphans) and not unit.is_desired


def relieve_if_succeeded(unit: Unit) -> None:
    """Ask former processes to end when their answers have, once the gateway's own serve."""
    if unit.child is not None and unit.orphans and _serves(unit.child):
        log.info("%s has its place taken; its former processes leave", unit.slot)
        _signal(unit, _RELIEVE)
        unit.orphans = ""


def drain(unit: Unit, now: float) -> None:
    """Ask former processes to end as a gateway that stops does: answers that take longer than
    `drain_timeout_s` end with an error. The gateway's own deadline holds for them, too."""
    if unit.process is None:
        unit.patience.stop(unit.spec, now, was_ready=True, drains=False)
    _signal(unit, _DRAIN)


def hurry(unit: Unit, now: float) -> None:
    """Ask former processes to end all open answers with an error at once."""
    unit.patience.hurry(now)
    _signal(unit, _HURRY)


def see_off(unit: Unit, now: float) -> None:
    """Wait for the former processes of a gateway that has stopped; kill them when they are late."""
    left = marked(unit.orphans)
    if left and now < (unit.patience.deadline or 0.0):
        return
    if left:
        log.warning("%s: former processes did not stop in time; they are killed", unit.slot)
    for entry in left:
        signal_exactly(entry, signal.SIGKILL)
    unit.orphans = ""
    log.info("%s has stopped", unit.slot)


def _signal(unit: Unit, numbers: tuple[int, ...]) -> None:
    leader = unit.process.pid if unit.process is not None else 0
    for entry in marked(unit.mark, leader):
        # One that was stopped goes on, to hear it.
        for number in (*numbers, signal.SIGCONT):
            signal_exactly(entry, number)


def _serves(gateway: Child) -> bool:
    """Return whether a process of a gateway's own serves, so that orphans need not any more.
    Before its second heartbeat a process may not listen yet."""
    return any(count > 1 for count in gateway.gateway_beats.values())
