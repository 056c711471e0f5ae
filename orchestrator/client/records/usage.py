"""The usage of API keys, as the Redis of this installation says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from contract.bus.records.usage_accounts import By, UsageAccounts, UsageRow
from contract.config import Config
from contract.usage import MOST_DAYS
from orchestrator.client.records.redis_access import ask_redis
from orchestrator.errors import UserError


def read_usage(config: Config, since: date, until: date, by: Sequence[By]) -> list[UsageRow]:
    """Return what all keys have used on some days of UTC, both included, as `UsageAccounts.report`
    does. Raises `UserError` if Redis does not answer."""
    # Each day is asked for, and none is kept for longer.
    since = max(since, until - min(timedelta(MOST_DAYS), until - date.min))
    return ask_redis(
        config,
        lambda db: UsageAccounts(db).report(since, until, by=by, models=config.models),
    )


def day_of(text: str) -> date:
    """Return a day of UTC: `2026-11-28`, or `7d` for that of seven days ago. Raises `UserError`."""
    today = datetime.now(UTC).date()
    try:
        return today - timedelta(int(text[:-1])) if text.endswith("d") else date.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UserError(f"`{text}` is no day", "as in 2026-11-28, or 30d for 30 days ago") from None
