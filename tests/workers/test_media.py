"""Images and the like on their way into an engine. The mock counts each byte as a token."""

from __future__ import annotations

import hashlib

from msgspec.structs import replace

from contract.asked import Media
from contract.messages import ChatMessage, Done, ErrorCode, Failed, Job
from tests.waiting import until
from tests.workers.client import Client
from tests.workers.read_answer import assert_counted
from tests.workers.worker_processes import WorkerProcesses

DATA = bytes(range(256)) * 40


def with_image(client: Client, tokens: int) -> Job:
    image = Media("image", 5, "image/png", hashlib.sha256(DATA).hexdigest(), len(DATA), DATA)
    turn = ChatMessage("user", "look at this", media=(image,))
    return replace(client.job(tokens), prompt=None, messages=(turn,))


async def test_an_answer_about_an_image_is_finished_by_another_worker(
    client: Client, workers: WorkerProcesses
) -> None:
    first = await workers.start(engine_args={"media": 1}).ready()
    beat = await first.heartbeat()
    assert beat is not None
    assert beat.takes == ("image", "audio", "video")
    job = with_image(client, 120)
    await client.put(job)
    await client.saw_tokens([job.id], 10)
    await first.kill()
    await workers.start(engine_args={"media": 1}).ready()
    await client.ended([job.id])
    assert_counted(client.answers[job.id], 120)
    assert len(client.answers[job.id].attempts) == 2
    end = client.answers[job.id].end
    assert isinstance(end, Done)
    assert end.prompt_tokens == 3 + len(DATA)
    await until(client.is_settled)
    assert not await client.db.exists(f"{client.queue.job_key(job.id)}:media")


async def test_a_model_that_takes_none_and_images_that_are_gone(
    client: Client, workers: WorkerProcesses
) -> None:
    refusing = await workers.start().ready()
    job = with_image(client, 5)
    await client.put(job)
    await client.ended([job.id])
    end = client.answers[job.id].end
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == (ErrorCode.INVALID_REQUEST, False)
    said = f"model `{client.queue.model}` takes no images; docs/engines.md says which engines do"
    assert end.message == said
    await refusing.kill()
    lost = with_image(client, 5)
    await client.put(lost)
    await client.db.delete(f"{client.queue.job_key(lost.id)}:media")
    await workers.start(engine_args={"media": 1}).ready()
    await client.ended([lost.id])
    end = client.answers[lost.id].end
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == (ErrorCode.LOST, True)
