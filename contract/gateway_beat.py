"""A gateway process's heartbeat."""

from __future__ import annotations

from typing import Final

import msgspec

from contract.figures import Figures

#: The `index` in the heartbeat of a process that has died, while another reads its stream.
ADOPTED: Final = -1


class GatewayBeat(msgspec.Struct, frozen=True, omit_defaults=True):
    """A gateway process's sign of life, sent by a thread of its own; the `count`-th. The process
    that started it, if it is one of several, is `parent_pid`. One that `is_leaving` takes no new
    connections."""

    name: str
    host: str
    pid: int
    index: int = 0
    open_streams: int = 0
    parent_pid: int = 0
    count: int = 0
    is_leaving: bool = False
    figures: Figures = msgspec.field(default_factory=Figures)
    #: Why the configuration file cannot be used, while it serves by the last one that could.
    config_problem: str = ""
    #: Why the keys of this host and those of others are not the same, where they should be.
    keys_problem: str = ""

    @property
    def is_adopted(self) -> bool:
        """Whether the process is dead: the one of `pid` reads its reply stream for late clients."""
        return self.index == ADOPTED
