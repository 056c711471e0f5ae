"""One process of a unit, from its start to the end of all that it has started."""

from __future__ import annotations

from contract.bus.records.worker_ends import GpuAtEnd
from contract.endings import EndedBy
from contract.messages import Heartbeat
from orchestrator.protocol.diagnosis import count_memory_kills
from orchestrator.protocol.life import Phase
from orchestrator.supervisor.reporting.throughput import Throughput
from orchestrator.system.process import Process


class Child:
    """The facts of one process. Times are monotonic seconds.

    `log_start` is where its part of the log begins, `began_at` when the start or waking began
    that it is in or has behind it.
    """

    def __init__(self, process: Process, name: str, log_start: int, began_at: float) -> None:
        self.process = process
        self.name = name
        self.log_start = log_start
        self.began_at = began_at
        #: How many processes the kernel had ended for their memory when this one began.
        self.memory_kills = count_memory_kills()
        #: Since when it serves or sleeps; None if it never has.
        self.ready_at: float | None = None
        #: How long its start took, or its last waking.
        self.ready_after_s: float | None = None
        #: Whether the account of GPU memory knows what it has since it is ready or asleep.
        self.is_measured = False
        self.beat: Heartbeat | None = None
        #: How often each of a gateway's processes has beaten.
        self.gateway_beats: dict[str, int] = {}
        self.throughput = Throughput()
        #: Why the supervisor itself killed it; empty if it did not.
        self.kill_reason = ""
        #: When it ended: from then on what it left behind is being swept up.
        self.exited_at: float | None = None
        self.exit_code: int | None = None
        self.ended_by = EndedBy.ITSELF
        #: The GPUs of a worker, as they were then.
        self.gpus_at_end: tuple[GpuAtEnd, ...] = ()

    @property
    def is_woken(self) -> bool:
        """Whether it is in a waking, or has one behind it, and no start."""
        return self.began_at > self.process.started

    def entered(self, phase: Phase, before: Phase, now: float) -> None:
        """Take note that its unit has come from one phase to another."""
        match phase:
            case Phase.READY | Phase.ASLEEP:
                self.ready_at = now
                if phase is Phase.READY and before in (Phase.STARTING, Phase.WAKING):
                    self.ready_after_s = now - self.began_at
            case Phase.SUSPENDING:
                self.is_measured = False
            case Phase.WAKING:
                self.began_at = now
                self.is_measured = False
            case _:
                pass
