"""The worker's heartbeat. A ready worker whose event loop stands still loses its lease, and with
it its jobs; one that loads a model may stand still."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from contract.bus import heartbeat_sender as heartbeat_sender
from contract.bus.heartbeat_sender import Sign
from contract.messages import Heartbeat, State
from contract.process.host_name import host_name
from workers.engine import WaitsForServer

if TYPE_CHECKING:
    from workers.worker import Worker

log = logging.getLogger(__name__)
#: The stage in which an engine starts.
LOADING: Final = "loading"
#: The same, as long as the server that it needs is away.
_WAITS: Final = "waiting for the server behind it"


class WorkerHeartbeat(heartbeat_sender.HeartbeatSender):
    """Beats until stopped. `lapsed` is called in the worker's loop when the lease had ended
    meanwhile, so that other workers may have taken its jobs over."""

    def __init__(
        self, redis_url: str, heartbeat: Callable[[], Heartbeat], lapsed: Callable[[], None]
    ) -> None:
        super().__init__(redis_url)
        self._heartbeat = heartbeat
        self._lapsed = lapsed

    def sign(self) -> Sign:
        beat = self._heartbeat()
        return Sign(beat.model, beat.name, beat, ready=beat.state is State.READY)

    def is_due(self) -> bool:
        serves = self._heartbeat().state in (State.READY, State.STOPPING)
        if serves and self.stands_still_s > heartbeat_sender.HUNG_AFTER_S:
            log.error("the event loop stands still; the lease is left to end")
            return False
        return True

    def lapsed(self) -> None:
        self._lapsed()


def heartbeat_of(worker: Worker) -> Heartbeat:
    """Return a worker as it is now. Only reads: the heartbeat's thread calls it."""
    outbox, load, spec, report = worker.outbox, worker.outbox.load, worker.spec, worker.report
    # While the engine loads, it may have to download the model first.
    download = worker.fetching.download() if worker.stage == LOADING else None
    engine = worker.engine
    obstacle = engine.obstacle if isinstance(engine, WaitsForServer) else ""
    adapters = {each.job.adapter for each in outbox.attempts()} if spec.model.adapters else set()
    return Heartbeat(
        name=spec.name,
        model=spec.model_id,
        engine=spec.engine,
        host=host_name(),
        pid=os.getpid(),
        state=worker.state,
        stage=_WAITS if obstacle else str(download or worker.stage),
        version=report.version,
        env=spec.env,
        slots=report.slots,
        running=len(outbox),
        max_model_len=report.max_model_len,
        started_unix_s=worker.started_unix_s,
        ready_after_s=worker.ready_after_s,
        jobs_total=outbox.jobs_total,
        prompt_tokens_total=outbox.prompt_tokens_total,
        generated_tokens_total=outbox.generated_tokens_total,
        fenced_total=outbox.fenced_total,
        taken_over_total=worker.consumer.inheritance.taken_over_total,
        engine_waiting=load.waiting,
        kv_cache_usage=load.kv_cache_usage,
        prefix_cache_queries_total=load.prefix_cache_queries,
        prefix_cache_hits_total=load.prefix_cache_hits,
        preemptions_total=load.preemptions,
        pseudo_streaming=report.pseudo_streaming,
        downloaded_bytes=download.there_bytes if download else 0,
        remark=obstacle or "; ".join(filter(None, (report.remark, outbox.remark))),
        takes=report.takes,
        adapters_in_use=tuple(sorted(filter(None, adapters))),
    )
