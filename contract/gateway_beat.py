"""A gateway process's heartbeat."""

from __future__ import annotations

import msgspec

from contract.figures import Figures


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
