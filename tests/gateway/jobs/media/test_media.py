"""Images in requests of every API: read, bounded, fetched where the operator allows it, and told to
the worker byte for byte."""

from __future__ import annotations

import asyncio
import base64
import io
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from PIL import Image

from contract.asked import Media
from contract.bus.claims import Attempt, read_media
from contract.config.media import MediaConfig
from contract.media import media_of, parts_of
from contract.messages import ChatMessage, Job, Sampling
from gateway.http.errors import ApiError
from gateway.jobs.media.intake import MediaIntake
from tests.gateway.conftest import LOOK_OFTEN, Gateway, client_of, with_constants
from tests.gateway.scripted_worker import ScriptedWorker

MOST_BYTES = 60_000
MOST_PIXELS = 10_000


def image(form: str = "PNG", size: tuple[int, int] = (8, 6)) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", size, "red").save(written, form)
    return written.getvalue()


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes, type_: str = "image/png") -> str:
    return f"data:{type_};base64,{coded(data)}"


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says that it is a large one."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


PNG = image()


class Pictures:
    """A server of pictures, as a client's URL may name one."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.host = ""
        self.port = 0

    async def __aenter__(self) -> Pictures:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def url(self, path: str) -> str:
        return f"http://{self.host}/{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        self.asked.append(path)
        if path == "/slow.png":
            await reader.read()
        places = {"/moved.png": "/a.png", "/round": "/round", "/inside": "http://[::1]/a.png"}
        if path in places:
            answer = f"HTTP/1.1 302 Found\r\nlocation: {places[path]}\r\n\r\n".encode()
        elif path == "/none":
            answer = b"HTTP/1.1 404 Not Found\r\n\r\n"
        else:
            body = bytes(MOST_BYTES + 1) if path == "/large" else PNG
            answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body
        writer.write(answer)
        writer.close()


@pytest.fixture
async def pictures() -> AsyncIterator[Pictures]:
    async with Pictures() as server:
        yield server


@pytest.fixture(scope="module")
def own(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = {
        "models": {
            name: {"engine": "mock", "model_path": "none"} for name in ("sees", "reads", "later")
        },
        "limits": {"max_body_bytes": 5_000},
        "gateway": {
            "processes": 1,
            "ollama": True,
            "media": {
                "max_bytes": MOST_BYTES,
                "max_pixels": MOST_PIXELS,
                "max_items": 3,
                "hosts": ["127.0.0.1"],
                "private_hosts": ["127.0.0.1"],
                "timeout_s": 2,
            },
        },
    }
    gateway = Gateway(tmp_path_factory.mktemp("media"), redis_url, config)
    gateway.command = with_constants(LOOK_OFTEN)
    gateway.start()
    yield gateway
    assert gateway.stop() == 0


@pytest.fixture
async def seeing(redis_url: str, own: Gateway) -> AsyncIterator[ScriptedWorker]:
    """A worker of a model that takes images."""
    async with ScriptedWorker(redis_url, "sees") as worker:
        worker.takes_media = ("image",)
        await _until_known(own, sees=True)
        yield worker


async def _until_known(own: Gateway, *, sees: bool) -> None:
    async with client_of(own) as client:
        while True:
            shown = await client.post("/api/show", json={"model": "sees"})
            if sees == ("vision" in shown.json().get("capabilities", ())):
                return
            await asyncio.sleep(0.02)


async def _until_ready(client: httpx.AsyncClient, model: str) -> None:
    while '"ready"' not in (await client.get(f"/v1/models/{model}")).text:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


@pytest.fixture
async def caller(own: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(own) as client:
        yield client


async def seen(worker: ScriptedWorker, asking: Any) -> Job:
    """Answer a request, and return its job with all that came along."""
    request = asyncio.ensure_future(asking)
    attempt: Attempt = await worker.start()
    job = await read_media(worker.db, worker.queue.job_key(attempt.job.id), attempt.job)
    await worker.delta(attempt, "a picture")
    await worker.done(attempt)
    await request
    assert not await worker.db.exists(f"{worker.queue.job_key(job.id)}:media")
    return job


def said(job: Job) -> list[Any]:
    """Return the parts of the last turn, with the bytes of images."""
    assert job.messages is not None
    parts = parts_of(job.messages[-1])
    return [part if isinstance(part, str) else part.data for part in parts]


def chat(*parts: Any, model: str = "sees") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": [*parts]}]}


def at(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


async def test_openai_s_client_sends_images(own: Gateway, seeing: ScriptedWorker) -> None:
    other = image("JPEG")
    async with openai.AsyncOpenAI(
        base_url=f"{own.url}/v1", api_key=own.key.text, max_retries=0
    ) as client:
        asked = chat(
            {"type": "text", "text": "this"},
            at(data_url(PNG)),
            {"type": "text", "text": "and"},
            {"type": "image_url", "image_url": {"url": data_url(other), "detail": "low"}},
        )
        job = await seen(seeing, client.chat.completions.create(**asked))
        assert said(job) == ["this", PNG, "and", other]
        # The type is what it is, and not what it is said to be.
        assert [each.type for each in media_of(job)] == ["image/png", "image/jpeg"]
        parts: Any = [
            {"type": "input_text", "text": "what is"},
            {"type": "input_image", "image_url": data_url(PNG), "detail": "auto"},
        ]
        items: Any = [
            {"role": "user", "content": "x"},
            {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": parts},
        ]
        job = await seen(seeing, client.responses.create(model="sees", input=items))
        assert said(job) == ["what is", PNG]
        assert job.messages is not None
        assert job.messages[-1].role == "tool"


async def test_anthropic_s_client_sends_images(own: Gateway, seeing: ScriptedWorker) -> None:
    async with anthropic.AsyncAnthropic(
        base_url=own.url, api_key=own.key.text, max_retries=0
    ) as client:
        block: Any = {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": coded(PNG)},
        }
        text: Any = {"type": "text", "text": "what is this?"}
        asked: Any = {"model": "sees", "max_tokens": 9}
        turns: Any = [{"role": "user", "content": [block, text]}]
        job = await seen(seeing, client.messages.create(messages=turns, **asked))
        assert said(job) == [PNG, "what is this?"]
        call = {"type": "tool_use", "id": "c", "name": "look", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "c", "content": [text, block]}
        turns = [
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
        ]
        job = await seen(seeing, client.messages.create(messages=turns, **asked))
        assert said(job) == ["what is this?", PNG]


async def test_ollama_s_bodies_have_images(
    caller: httpx.AsyncClient, seeing: ScriptedWorker
) -> None:
    message = {"role": "user", "content": "what?", "images": [coded(PNG)]}
    body = {"model": "sees", "messages": [message], "stream": False}
    assert said(await seen(seeing, caller.post("/api/chat", json=body))) == [PNG, "what?"]
    body = {"model": "sees", "prompt": "what?", "images": [coded(PNG)], "stream": False}
    assert said(await seen(seeing, caller.post("/api/generate", json=body))) == [PNG, "what?"]


async def test_a_background_job_keeps_its_images_until_it_is_asked(
    caller: httpx.AsyncClient, seeing: ScriptedWorker
) -> None:
    messages = [{"role": "user", "content": ["look", at(data_url(PNG))]}]
    body = {"modelId": "sees", "messages": messages}
    assert said(await seen(seeing, caller.post("/api/v1/jobs", json=body))) == ["look", PNG]


async def test_a_request_that_comes_again_is_known_by_its_image(
    caller: httpx.AsyncClient, seeing: ScriptedWorker
) -> None:
    headers = {"Idempotency-Key": "images-again"}
    first = caller.post("/v1/chat/completions", json=chat(at(data_url(PNG))), headers=headers)
    await seen(seeing, first)
    again = await caller.post("/v1/chat/completions", json=chat(at(data_url(PNG))), headers=headers)
    assert again.json()["choices"][0]["message"]["content"] == "a picture"
    other = chat(at(data_url(image(size=(9, 9)))))
    refused = await caller.post("/v1/chat/completions", json=other, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "idempotency_conflict")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_every_usual_form_is_taken(
    caller: httpx.AsyncClient, seeing: ScriptedWorker, form: str
) -> None:
    data = image(form)
    body = chat(at(data_url(data, "image/whatever")))
    job = await seen(seeing, caller.post("/v1/chat/completions", json=body))
    assert (said(job), media_of(job)[0].type) == ([data], f"image/{form.lower()}")


@pytest.mark.parametrize(
    ("part", "status", "why"),
    [
        (at(data_url(bomb(60_000, 60_000))), 400, "more than 10000 pixels"),
        (at(data_url(bomb(101, 100))), 400, "more than 10000 pixels"),
        (at(data_url(image(size=(101, 100)))), 400, "more than 10000 pixels"),
        (at(data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>")), 400, "not readable"),
        (at(data_url(PNG[:20])), 400, "not readable"),
        (at("data:image/png;base64,!!!!"), 400, "not valid base64"),
        (at("data:image/png,abc"), 400, "must be in base64"),
        (at("file:///etc/passwd"), 400, "must begin with data:"),
        (at(data_url(PNG + bytes(MOST_BYTES))), 413, "at most 60000"),
        (at("https://elsewhere.test/a.png"), 400, "not among `gateway.media.hosts`"),
        (at("http://127.0.0.2/a.png"), 400, "must begin with https"),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            400,
            "takes no",
        ),
        ({"type": "image_embeds", "image_embeds": "AAAA"}, 400, "image_embeds are not supported"),
    ],
)
async def test_what_may_not_come_in_is_refused(
    caller: httpx.AsyncClient, seeing: ScriptedWorker, part: Any, status: int, why: str
) -> None:
    refused = await caller.post("/v1/chat/completions", json=chat(part))
    assert refused.status_code == status
    assert why in refused.json()["error"]["message"]
    assert seeing.attempts.empty()


async def test_at_most_so_many(caller: httpx.AsyncClient, seeing: ScriptedWorker) -> None:
    body = chat(*[at(data_url(PNG))] * 4)
    refused = await caller.post("/v1/chat/completions", json=body)
    assert (refused.status_code, "4 media; at most 3" in refused.text) == (400, True)


async def test_a_model_that_takes_none_says_so(
    redis_url: str, caller: httpx.AsyncClient, seeing: ScriptedWorker
) -> None:
    async with ScriptedWorker(redis_url, "reads") as worker:
        await _until_ready(caller, "reads")
        body = chat(at(data_url(PNG)), model="reads")
        refused = await caller.post("/v1/chat/completions", json=body)
        assert refused.status_code == 400
        assert "model `reads` takes no images" in refused.json()["error"]["message"]
        assert worker.attempts.empty()


async def test_bodies_may_be_longer_only_where_a_model_takes_images(
    redis_url: str, own: Gateway, caller: httpx.AsyncClient
) -> None:
    large = chat(at(data_url(image("GIF") + bytes(20_000))))
    async with ScriptedWorker(redis_url, "sees") as worker:
        worker.takes_media = ("image",)
        await _until_known(own, sees=True)
        job = await seen(worker, caller.post("/v1/chat/completions", json=large))
        assert media_of(job)[0].size > 20_000
        worker.takes_media = ()
        await _until_known(own, sees=False)
        refused = await caller.post("/v1/chat/completions", json=large)
        assert refused.status_code == 413


async def test_what_a_url_names_is_fetched(
    caller: httpx.AsyncClient, seeing: ScriptedWorker, pictures: Pictures
) -> None:
    body = chat(at(pictures.url("a.png")), "and", at(pictures.url("moved.png")))
    job = await seen(seeing, caller.post("/v1/chat/completions", json=body))
    assert said(job) == [PNG, "and", PNG]
    assert media_of(job)[0].url == ""
    assert pictures.asked == ["/a.png", "/moved.png", "/a.png"]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("none", "answered with 404"),
        ("round", "more than 3 redirects"),
        ("inside", "must begin with https"),
        ("large", "larger than the 60000 bytes"),
        ("slow.png", "not fetched within 2 s"),
    ],
)
async def test_what_cannot_be_fetched_is_told(
    caller: httpx.AsyncClient, seeing: ScriptedWorker, pictures: Pictures, path: str, why: str
) -> None:
    body = chat(at(pictures.url(path)))
    refused = await caller.post("/v1/chat/completions", json=body)
    assert (refused.status_code, seeing.attempts.empty()) == (400, True)
    assert why in refused.json()["error"]["message"]


async def test_no_name_leads_into_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    intake = MediaIntake(MediaConfig(hosts=["*"]))
    given = Media("image", 0, url="https://pictures.test/a.png")
    turn = ChatMessage("user", "", media=(given,))
    job = intake.check(Job("j", "m", Sampling(), messages=(turn,)), ("image",))
    found: Any = [(2, 1, 6, "", ("169.254.169.254", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(ApiError, match="within this network"):
        await intake.fetched(job)
    await intake.close()
