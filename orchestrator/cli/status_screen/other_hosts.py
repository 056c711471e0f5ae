"""The table of the other hosts that share this one's Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from contract.messages import State
from contract.supervision.status import HostStatus
from orchestrator.terminal.fitting import cells, joined, padded, shortened
from orchestrator.terminal.speech import mebibytes, printable

#: Columns beside the name.
_FIGURES: Final = 53


def host_lines(
    hosts: Sequence[HostStatus], width: int, style: Callable[[str, str], str]
) -> Iterator[str]:
    """Yield the head and a row for each host, with its models below; nothing if there are none.
    `style` takes the name of a style and a text."""
    if not hosts:
        return
    room = max(10, min(width - _FIGURES, max(cells(host.name) for host in hosts)))
    head = f"{'OTHER HOST':{room}}  GATEWAYS  MODELS  READY  GPUS       USED         OF"
    yield style("bold", head)
    for host in hosts:
        yield _row(host, room)
        models = [printable(f"{model} {state.value}") for model, state in host.models.items()]
        for line in joined(models, width - 2):
            yield style("dim", f"  {line}")


def _row(host: HostStatus, room: int) -> str:
    ready = sum(state is State.READY for state in host.models.values())
    used = mebibytes(host.gpu_used_mib) if host.gpus else "-"
    total = mebibytes(host.gpu_total_mib) if host.gpus else "-"
    return (
        f"{padded(shortened(printable(host.name), room), room)}  {host.gateways:>8}"
        f" {len(host.models):>7} {ready:>6} {host.gpus:>5} {used:>10} {total:>10}"
    )
