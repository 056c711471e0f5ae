"""A job's life, asked of Redis by a command."""

from __future__ import annotations

from contract.bus.views.trace import Trace, find_trace, with_log
from contract.config import Config
from orchestrator.client.records.redis_access import ask_redis
from orchestrator.errors import UserError
from orchestrator.terminal.speech import printable


def trace(config: Config, wanted: str) -> Trace:
    """Return the life of a job by its id, that of its request, of its answer or of its background
    job. Raises `UserError`."""
    found = ask_redis(config, lambda db: find_trace(db, config, wanted))
    if found is None:
        raise UserError(
            f"no job `{printable(wanted)}` is known: of jobs that have ended, those of the last "
            f"{config.usage.trace_days} days are, and at most about 20000 of a model",
            "a request id of the client's own is known for the last requests only; "
            "`./ew logs --since 1h` may name it",
        )
    return with_log(found)
