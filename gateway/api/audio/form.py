"""The forms of OpenAI's transcriptions and translations, with vLLM's extra fields."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import orjson
from fastapi import Request
from pydantic import Field, PrivateAttr

from contract import bounds
from contract.asked import Media, Speech, SpeechTask
from contract.messages import ChatMessage, Job, Sampling
from gateway.api import fields
from gateway.api.fields import GenerationBody, Ignored, LenientBody, OnlyFalse, Unsupported
from gateway.batches.upload_body import UploadBody
from gateway.http.errors import ApiError, invalid

SpeechFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
#: Forms that say when something was said.
_TIMED: frozenset[SpeechFormat] = frozenset({"srt", "verbose_json", "vtt"})


class Sound:
    """The bytes of a file, which are not on the disk. At most `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._data = bytearray()

    @property
    def data(self) -> bytes:
        return bytes(self._data)

    def write(self, data: bytes) -> None:
        """Raises `ApiError`."""
        self._data += data
        if len(self._data) > self._most:
            message = f"the file has more than {self._most} bytes (`gateway.media.max_bytes`)"
            raise ApiError("body_too_large", message)


class SpeechForm(LenientBody, GenerationBody):
    """The fields beside the file."""

    is_lenient: ClassVar[bool] = True
    model: fields.OnlyModel = ""
    language: Annotated[str, Field(max_length=16)] | None = Field(
        None, description="By ISO 639-1; if it is not given, the model finds it out."
    )
    prompt: str = Field("", description="What was said before.")
    response_format: SpeechFormat = "json"
    stream: bool | None = None
    temperature: bounds.Temperature = 0
    top_p: bounds.TopP | None = None
    top_k: bounds.TopK | None = None
    min_p: bounds.MinP | None = None
    seed: bounds.Seed | None = None
    frequency_penalty: bounds.Penalty | None = None
    presence_penalty: bounds.Penalty | None = None
    repetition_penalty: bounds.RepetitionPenalty | None = None
    max_completion_tokens: bounds.Tokens | None = None
    stream_include_usage: bool | None = None
    timestamp_granularities: Annotated[
        Literal["segment"] | None, Field(alias="timestamp_granularities[]")
    ] = None
    chunking_strategy: Ignored = None
    use_beam_search: OnlyFalse = None
    include: Unsupported = Field(None, alias="include[]")
    hotwords: Unsupported = None
    to_language: Unsupported = None
    vllm_xargs: Unsupported = None
    _sound: bytes = PrivateAttr(b"")
    _speech: Speech = PrivateAttr(Speech())

    def about(self, sound: bytes, task: SpeechTask, most_s: float) -> Self:
        """Return it as the form that came with a file. Raises `ApiError`."""
        if self.stream and self.response_format not in ("json", "text"):
            raise invalid("stream", f"not available with `response_format` {self.response_format}")
        self._sound = sound
        timed = self.response_format in _TIMED
        self._speech = Speech(task, self.language or "", timed, most_s)
        return self

    @property
    def own_names(self) -> Mapping[str, str]:
        names = {"max_tokens": "max_completion_tokens"}
        return {**names, "min_tokens": "min_tokens", "logprobs": "logprobs"}

    def job(self, job_id: str, key_id: str) -> Job:
        sound = self._sound
        digest = hashlib.sha256(sound).hexdigest()
        media = Media("audio", 0, "application/octet-stream", digest, len(sound), sound)
        turn = ChatMessage("user", self.prompt, media=(media,))
        sampling = Sampling(
            max_tokens=self.max_completion_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            seed=self.seed,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            repetition_penalty=self.repetition_penalty,
        )
        return Job(
            job_id, self.model, sampling, messages=(turn,), speech=self._speech, key_id=key_id
        )


async def read_form(
    request: Request, task: SpeechTask, most_bytes: int, most_s: float, ignored: set[str]
) -> SpeechForm:
    """Return a form with its file. Raises `ApiError`."""
    sound = Sound(most_bytes)
    body = UploadBody(sound)
    await body.read(request)
    form = fields.parse(SpeechForm, orjson.dumps(body.fields), ignored)
    return form.about(sound.data, task, most_s)
