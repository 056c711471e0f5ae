"""How busy vLLM is, as its engine core says with its outputs, and what it need not do again."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import vllm.envs
from vllm.v1.metrics.loggers import StatLoggerBase

from workers.engine_state import EngineLoad
from workers.outbox import Outbox


def load_reporter(outbox: Outbox) -> Any:
    """A stat logger of vLLM that tells the outbox how busy the engine is."""

    class LoadReporter(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            self._queries = 0
            self._hits = 0
            self._preemptions = 0

        def record(
            self, scheduler_stats: Any = None, iteration_stats: Any = None, *_: Any, **__: Any
        ) -> None:
            self._preemptions += getattr(iteration_stats, "num_preempted_reqs", 0)
            if scheduler_stats is None:
                return
            prefix = getattr(scheduler_stats, "prefix_cache_stats", None)
            if prefix is not None:
                self._queries += prefix.queries
                self._hits += prefix.hits
            # Apart in vLLM's statistics: of 0.26.0 by queue, of 0.32.0 and 0.33.0 by request.
            deferred = getattr(scheduler_stats, "num_skipped_waiting_reqs", 0)
            outbox.report_load(
                EngineLoad(
                    scheduler_stats.num_waiting_reqs + deferred,
                    scheduler_stats.kv_cache_usage,
                    self._queries,
                    self._hits,
                    self._preemptions,
                    deferred,
                    scheduler_stats.num_running_reqs,
                )
            )

        def log_engine_initialized(self) -> None:
            """vLLM logs its configuration itself."""

    return LoadReporter


def look_up_once(engine: Any) -> None:
    """Have vLLM keep what it would look up again and again in the same process, with the same
    result: the environment for each token, and for each request the token that ends answers. And
    have it number requests, where it asks the kernel for random bytes each time."""
    # Its engine core does the same.
    getattr(vllm.envs, "enable_envs_cache", lambda: None)()
    processor: Any = getattr(engine, "input_processor", None)
    renderer: Any = getattr(processor, "renderer", None)
    if hasattr(renderer, "get_eos_token_id"):
        end = renderer.get_eos_token_id()
        renderer.get_eos_token_id = lambda: end
    module: Any = sys.modules.get(type(processor).__module__)
    if hasattr(module, "random_uuid"):
        module.random_uuid = numbers(secrets.randbits(32))


def numbers(first: int) -> Callable[[], str]:
    """Return what gives another number each time, as eight characters: so many does vLLM take, to
    tell requests of one name apart."""
    counted = count(first)
    return lambda: f"{next(counted) % 2**32:08x}"
