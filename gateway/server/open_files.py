"""How many connections a process may have, by the files that it may open."""

from __future__ import annotations

import logging
import resource
from typing import Final

log = logging.getLogger(__name__)
_MOST: Final = 65_536
#: For Redis, logs, certificates, uploads, and connections that are refused.
_FEWEST_SPARE: Final = 64


def allow_many() -> None:
    """Raise the limit as far as it may be: the usual 1024 is for programs that use `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def most_connections(configured: int) -> int:
    """Return how many connections there may be: those above are refused, with the reason, before
    the process has no file left for anything else."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return configured
    most = max(1, limit - max(_FEWEST_SPARE, limit // 8))
    if most < configured:
        log.warning(
            "%d connections, not the %d of `gateway.max_connections`: the system lets a process "
            "open %d files (`ulimit -Hn`, `LimitNOFILE` of systemd)",
            most,
            configured,
            limit,
        )
    return min(most, configured)
