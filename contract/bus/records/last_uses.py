"""When API keys were used last, as `scripts/usage.lua` notes it whenever a job ends."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Final

from contract.bus.client import RedisClient

#: As many as the notes are kept for (400 days), and the one that has begun.
_MONTHS: Final = 15


async def read_last_uses(db: RedisClient) -> dict[str, float]:
    """Return by key id when the last of its requests to a model ended, in Unix seconds. Raises
    `RedisError`."""
    seconds, _ = await db.time()
    pipe = db.pipeline(transaction=False)
    for month in _months(datetime.fromtimestamp(seconds, timezone.utc)):
        pipe.hgetall(f"ew:usage:last:{month}")
    found: dict[str, float] = {}
    for noted in await pipe.execute():
        found |= {key.decode(): float(at) for key, at in noted.items()}
    return found


def _months(now: datetime) -> list[str]:
    """Return the months with notes as they are named, the oldest first."""
    last = 12 * now.year + now.month - 1
    return [f"{n // 12}{n % 12 + 1:02}" for n in range(last - _MONTHS + 1, last + 1)]
