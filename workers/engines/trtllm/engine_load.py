"""How busy TensorRT-LLM is, from the statistics of its iterations."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from workers.engine_state import EngineLoad
from workers.outbox import Outbox

log = logging.getLogger(__name__)
_EVERY_S: Final = 1.0
_WAIT_S: Final = 0.5


async def report_load(llm: Any, outbox: Outbox) -> None:
    """Report until cancelled. The statistics are a help, so trouble with them ends only this."""
    reused = missed = 0
    while True:
        try:
            async for iteration in llm.get_stats_async(timeout=_WAIT_S):
                cache = iteration.get("kvCacheStats") or {}
                reused = cache.get("reusedBlocks", reused)
                missed = cache.get("missedBlocks", missed)
                outbox.report_load(_load(iteration, cache, reused, missed))
        except Exception:
            log.exception("no statistics of TensorRT-LLM from now on")
            return
        await asyncio.sleep(_EVERY_S)


def _load(iteration: dict[str, Any], cache: dict[str, Any], reused: int, missed: int) -> EngineLoad:
    blocks = cache.get("maxNumBlocks")
    return EngineLoad(
        waiting=iteration.get("numQueuedRequests", 0),
        kv_cache_usage=cache.get("usedNumBlocks", 0) / blocks if blocks else None,
        prefix_cache_queries=reused + missed,
        prefix_cache_hits=reused,
    )
