"""Jobs that were given up, in the Redis of this installation."""

from __future__ import annotations

import uuid
from typing import Final

from msgspec.structs import replace

from contract.bus.background import BackgroundFull, BackgroundJobs
from contract.bus.background_job import AboutJob
from contract.bus.client import RedisClient
from contract.bus.records.dead_letters import DeadLetter, DeadLetters
from contract.bus.records.worker_ends import WorkerEnd, WorkerEnds
from contract.config import Config
from contract.logs.file import LogFile, logs_of
from contract.logs.line import LogLine, merged
from contract.messages import Job
from contract.paths import logs_dir
from contract.usage import MODELS_KEY
from orchestrator.client.records.redis_access import ask_redis
from orchestrator.errors import UserError

#: How many lines of each worker are shown, and from how long before the last of them broke.
_LINES: Final = 5
_LOOKED_BACK_S: Final = 3600


def dead_letters(config: Config) -> list[DeadLetter]:
    """Return those of all models, the newest first. Raises `UserError`."""
    return ask_redis(config, lambda db: _letters(db, config))


def ends_of(config: Config, letter: DeadLetter) -> list[WorkerEnd]:
    """Return how each worker that it broke ended, as far as the supervisors of their hosts have
    told. Raises `UserError`."""
    ends = ask_redis(config, lambda db: WorkerEnds(db, letter.model).of(letter.workers))
    return list(ends.values())


def drop_letter(config: Config, letter: DeadLetter) -> None:
    """Forget one, with its prompt. Raises `UserError`."""
    ask_redis(config, lambda db: DeadLetters(db, letter.model).drop(letter.entry))


def replay_letter(config: Config, letter: DeadLetter) -> str:
    """Ask for a job once more, as a background job of the same key, and forget its letter. Return
    the id of that job. Raises `UserError`."""
    job = letter.job
    if job is None:
        message = f"`{letter.id}` cannot be read, so it cannot be asked for again"
        raise UserError(message, f"`./ew dead drop {letter.id}` forgets it")
    return ask_redis(config, lambda db: _replay(db, config, letter, job))


def last_lines(letter: DeadLetter) -> list[str]:
    """Return the last lines that each of its workers wrote, and those of the supervisor that name
    one, as far as the logs of this host have them."""
    logs = [*logs_of(logs_dir(), letter.model), *logs_of(logs_dir(), "supervisor")]
    known = merged([LogFile(path).last(None, letter.unix_s - _LOOKED_BACK_S) for path in logs])
    last: list[LogLine] = []
    for worker in letter.workers:
        last += [line for line in known if line.process == worker][-_LINES:]
    told = [line for line in known if any(worker in line.message for worker in letter.workers)]
    return [line.text for line in merged([last, told])]


async def _letters(db: RedisClient, config: Config) -> list[DeadLetter]:
    models = {each.decode() for each in await db.smembers(MODELS_KEY)} | {*config.models}
    days = config.dead_letters.keep_days
    found = [each for model in models for each in await DeadLetters(db, model, days).letters()]
    return sorted(found, key=lambda letter: (letter.unix_s, letter.id), reverse=True)


async def _replay(db: RedisClient, config: Config, letter: DeadLetter, lost: Job) -> str:
    """No gateway process keeps it yet: the first that looks takes it over, and puts it."""
    job = replace(lost, id=uuid.uuid4().hex, resumable=True)
    about = AboutJob(job.model, f"replay-{letter.id}", config.jobs.timeout_s)
    records = BackgroundJobs(db, config.jobs.max_bytes)
    try:
        await records.create(job, about, job_id=f"job_{job.id}", keeper="", digest=letter.id)
    except BackgroundFull as full:
        raise UserError(str(full), "`jobs.max_bytes` bounds them") from None
    await DeadLetters(db, letter.model).drop(letter.entry)
    return f"job_{job.id}"
