"""Speech in OpenAI's words: what a form asks of a worker, and how the text is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import openai
import pytest

from contract.asked import Speech
from contract.media import speech_head
from contract.messages import Delta, Done
from tests.gateway.scripted_worker import ScriptedWorker, delta
from tests.gateway.sse_client import events_of
from tests.waiting import until

PATH = "/v1/audio/transcriptions"
SOUND = b"RIFF"
FILE = {"file": ("a.wav", SOUND)}


def head(**facts: Any) -> Delta:
    return Delta(speech_head(**facts), b"")


#: Two clips, the first of five seconds, as a worker tells them.
PLAIN = (
    head(**{"from": 0.0, "seconds": 7.5, "language": "en"}),
    delta("Hello "),
    delta("there."),
    head(**{"from": 5.0}),
    delta(" Bye."),
    Done(("stop",), 8, 3),
)
TIMED = (
    PLAIN[0],
    delta(" Hello"),
    delta("<|1.20|>"),
    delta("<|2.00|><|notimestamps|> there.<|4.00|>"),
    PLAIN[3],
    delta(" Bye."),
    Done(("stop",), 8, 4),
)


@pytest.fixture
async def listener(redis_url: str, model: str) -> AsyncIterator[ScriptedWorker]:
    """A worker that says from its first heartbeat on that it takes sound."""
    worker = ScriptedWorker(redis_url, model)
    worker.takes_media = ("audio",)
    async with worker:
        yield worker


async def test_the_form_is_a_job_with_its_sound(
    client: httpx.AsyncClient, listener: ScriptedWorker, model: str
) -> None:
    form = {
        "model": model,
        "language": "de",
        "prompt": "before",
        "temperature": "0.5",
        "max_completion_tokens": "9",
        "new": "x",
    }
    job, response = await listener.job_of(client.post(PATH, files=FILE, data=form))
    assert response.status_code == 200, response.text
    assert response.headers["x-ignored-fields"] == "new"
    assert job.speech == Speech("transcribe", "de", timed=False, most_s=600)
    assert job.messages is not None
    (turn,) = job.messages
    (media,) = turn.media
    assert (turn.content, media.kind, media.size) == ("before", "audio", len(SOUND))
    assert (job.sampling.temperature, job.sampling.max_tokens) == (0.5, 9)
    path = "/v1/audio/translations"
    job, _ = await listener.job_of(client.post(path, files=FILE, data={"model": model}))
    assert job.speech == Speech("translate", most_s=600)
    assert job.sampling.temperature == 0


async def test_the_official_client_reads_both_forms(
    openai_client: openai.AsyncOpenAI, listener: ScriptedWorker, model: str
) -> None:
    transcriptions = openai_client.audio.transcriptions
    whole = await listener.answered(
        transcriptions.create(model=model, file=("a.wav", SOUND)), *PLAIN
    )
    assert whole.text == "Hello there. Bye."
    assert whole.usage is not None
    assert (whole.usage.type, whole.usage.seconds) == ("duration", 8)  # type: ignore[union-attr]

    async def read() -> list[Any]:
        stream = await transcriptions.create(model=model, file=("a.wav", SOUND), stream=True)
        return [event async for event in stream]

    *pieces, last = await listener.answered(read(), *PLAIN)
    assert [(each.type, each.delta) for each in pieces] == [
        ("transcript.text.delta", "Hello "),
        ("transcript.text.delta", "there."),
        ("transcript.text.delta", " Bye."),
    ]
    assert (last.type, last.text) == ("transcript.text.done", "Hello there. Bye.")


async def test_a_stream_is_one_of_vllms_too(
    client: httpx.AsyncClient, listener: ScriptedWorker, model: str
) -> None:
    form = {"model": model, "stream": "true"}
    response = await listener.answered(client.post(PATH, files=FILE, data=form), *PLAIN)
    *chunks, done = [event async for event in events_of(response)]
    assert done.data == "[DONE]"
    assert {each.json["object"] for each in chunks} == {"transcription.chunk"}
    choices = [each.json["choices"][0] for each in chunks]
    assert "".join(each["delta"]["content"] for each in choices) == "Hello there. Bye."
    assert [each.get("finish_reason") for each in choices] == [None, None, None, "stop"]


async def test_text_alone(client: httpx.AsyncClient, listener: ScriptedWorker, model: str) -> None:
    form = {"model": model, "response_format": "text"}
    response = await listener.answered(client.post(PATH, files=FILE, data=form), *PLAIN)
    assert response.text == "Hello there. Bye.\n"
    assert response.headers["content-type"].startswith("text/plain")


SRT = """1
00:00:00,000 --> 00:00:01,200
Hello

2
00:00:02,000 --> 00:00:04,000
there.

3
00:00:05,000 --> 00:00:07,500
Bye.

"""
VTT = "WEBVTT\n\n" + SRT.replace(",", ".").replace("1\n00", "00", 1).replace("\n2\n", "\n").replace(
    "\n3\n", "\n"
)


@pytest.mark.parametrize(
    ("form", "text", "kind"), [("srt", SRT, "text/plain"), ("vtt", VTT, "text/vtt")]
)
async def test_subtitles(
    client: httpx.AsyncClient,
    listener: ScriptedWorker,
    model: str,
    form: str,
    text: str,
    kind: str,
) -> None:
    asking = client.post(PATH, files=FILE, data={"model": model, "response_format": form})
    response = await listener.answered(asking, *TIMED)
    assert response.text == text
    assert response.headers["content-type"].startswith(kind)


async def test_segments_are_told_with_their_times_and_tokens(
    client: httpx.AsyncClient, listener: ScriptedWorker, model: str
) -> None:
    form = {"model": model, "response_format": "verbose_json"}
    response = await listener.answered(client.post(PATH, files=FILE, data=form), *TIMED)
    told = response.json()
    assert (told["task"], told["language"], told["duration"]) == ("transcribe", "en", 7.5)
    assert told["text"] == " Hello there. Bye."
    segments = [(each["start"], each["end"], each["text"]) for each in told["segments"]]
    assert segments == [(0, 1.2, " Hello"), (2, 4, " there."), (5, 7.5, " Bye.")]
    assert [each["seek"] for each in told["segments"]] == [0, 0, 5]
    assert [each["tokens"] for each in told["segments"]] == [[7], [7], [7]]


async def test_what_cannot_be_is_refused_by_name(
    client: httpx.AsyncClient, listener: ScriptedWorker, model: str
) -> None:
    form = {"model": model}

    async def refused(more: dict[str, str], file: Any = FILE) -> dict[str, Any]:
        response = await client.post(PATH, files=file, data=form | more)
        assert response.status_code in (400, 404, 413), response.text
        error: dict[str, Any] = response.json()["error"]
        return error

    assert (await refused({"response_format": "srt", "stream": "true"}))["param"] == "stream"
    assert (await refused({"response_format": "diarized_json"}))["param"] == "response_format"
    assert (await refused({"model": "no-such"}))["code"] == "model_not_found"
    large = {"file": ("a.wav", b"\0" * (26 * 1024 * 1024))}
    assert "gateway.media.max_bytes" in (await refused({}, large))["message"]
    response = await client.post(PATH, json=form)
    assert response.json()["error"]["code"] == "bad_multipart"
    response = await client.post(PATH, files=FILE, headers={"x-api-key": "wrong"})
    assert response.status_code == 401


async def is_ready(client: httpx.AsyncClient, model: str) -> bool:
    return (await client.get(f"/v1/models/{model}")).json()["state"] == "ready"


async def test_a_model_that_takes_no_sound_says_so(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    await until(partial(is_ready, client, model))
    response = await client.post(PATH, files=FILE, data={"model": model})
    assert response.status_code == 400
    assert f"model `{model}` takes no sound" in response.json()["error"]["message"]
