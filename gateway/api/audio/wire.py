"""How speech that was written down looks on the wire."""

from __future__ import annotations

import math
import re
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from contract.media import facts_of
from contract.messages import Delta, Done, Job, Status
from gateway.api.audio.form import SpeechFormat
from gateway.api.openai.chat import DONE, usage_of
from gateway.api.openai.chat_form import finish_reason_of
from gateway.api.openai.detail import ids_of
from gateway.http.error_answers import OPENAI, openai_body
from gateway.http.errors import ApiError
from gateway.streams import sse
from gateway.streams.answers import WholeAnswer
from gateway.streams.dialects import AnswerChoice, Timings

#: Whisper's mark of a time; it has others, which say nothing of when.
_MARK: Final = re.compile(r"<\|(?:(\d+\.\d\d)|[a-z]+)\|>")
CONTENT_TYPES: Final[Mapping[SpeechFormat, bytes]] = {
    "json": b"application/json",
    "verbose_json": b"application/json",
    "text": b"text/plain; charset=utf-8",
    "srt": b"text/plain; charset=utf-8",
    "vtt": b"text/vtt; charset=utf-8",
}


class Segment(NamedTuple):
    """A part of a speech, and when it was said, in seconds from its beginning."""

    start: float
    end: float
    text: str
    tokens: list[int]
    #: The seconds at which the clip that it is in begins.
    seek: float


class SpeechSoFar(AnswerChoice):
    """A speech, as far as it has come."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.language = ""
        self._clips: list[tuple[float, list[Delta]]] = []

    def add(self, delta: Delta) -> None:
        facts = facts_of(delta)
        if facts is None:
            super().add(delta)
            if self._clips:
                self._clips[-1][1].append(delta)
            return
        self.seconds = facts.get("seconds", self.seconds)
        self.language = facts.get("language", self.language)
        self._clips.append((facts["from"], []))

    def segments(self) -> Iterator[Segment]:
        """Yield the parts that its marks tell apart."""
        for start, deltas in self._clips:
            yield from _segments_of(deltas, start, self.seconds)


def _segments_of(deltas: list[Delta], clip: float, whole: float) -> Iterator[Segment]:
    """Yield the parts of a clip. The first begins with it; what has no end of its own ends with the
    whole."""
    start, text, tokens = clip, "", list[int]()
    for delta in deltas:
        if _MARK.sub("", delta.text):
            tokens += ids_of(delta.tokens)
        done = 0
        for mark in _MARK.finditer(delta.text):
            text += delta.text[done : mark.start()]
            done = mark.end()
            if mark[1] is None:
                continue
            at = clip + float(mark[1])
            if text.strip():
                yield Segment(start, max(at, start), text, tokens, clip)
                text, tokens = "", []
            start = at
        text += delta.text[done:]
    if text.strip():
        yield Segment(start, max(whole, start), text, tokens, clip)


class SpeechWhole:
    """A whole text, in one of OpenAI's formats."""

    errors = OPENAI

    def __init__(self, job: Job, form: SpeechFormat, temperature: float) -> None:
        self._task = job.speech.task if job.speech else "transcribe"
        self._form = form
        self._temperature = temperature

    def new_choice(self) -> SpeechSoFar:
        return SpeechSoFar()

    def body(self, choices: list[SpeechSoFar], done: Done, timings: Timings) -> bytes:
        (said,) = choices
        match self._form:
            case "json":
                used = {"type": "duration", "seconds": math.ceil(said.seconds)}
                is_plain = self._task == "translate"
                return orjson.dumps({"text": said.text} | ({} if is_plain else {"usage": used}))
            case "text":
                return said.text.encode() + b"\n"
            case "srt":
                return "".join(_subtitles(said, ",", numbered=True)).encode()
            case "vtt":
                return b"WEBVTT\n\n" + "".join(_subtitles(said, ".", numbered=False)).encode()
            case "verbose_json":
                return orjson.dumps(self._verbose(said))

    def _verbose(self, said: SpeechSoFar) -> dict[str, Any]:
        segments = [self._segment(number, each) for number, each in enumerate(said.segments())]
        return {
            "task": self._task,
            "language": said.language,
            "duration": said.seconds,
            "text": "".join(each["text"] for each in segments),
            "segments": segments,
        }

    def _segment(self, number: int, segment: Segment) -> dict[str, Any]:
        """A segment in OpenAI's words, with null for what ew does not know."""
        written = segment.text.encode()
        return {
            "id": number,
            "seek": int(segment.seek),
            "start": round(segment.start, 2),
            "end": round(segment.end, 2),
            "text": segment.text,
            "tokens": segment.tokens,
            "temperature": self._temperature,
            "avg_logprob": None,
            "compression_ratio": len(written) / len(zlib.compress(written)),
            "no_speech_prob": None,
        }


class SpeechAnswer(WholeAnswer[SpeechSoFar]):
    """A whole answer, which need not be JSON."""

    def __init__(self, dialect: SpeechWhole, request_id: str, form: SpeechFormat) -> None:
        super().__init__(dialect, request_id)
        self.content_type = CONTENT_TYPES[form]


class SpeechStream:
    """OpenAI's events, which are vLLM's chunks too, so that clients of both read them."""

    errors = OPENAI
    numbered = False
    mark = b""

    def __init__(self, job: Job, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        task = job.speech.task if job.speech else "transcribe"
        self._chunk: dict[str, Any] = {
            "id": f"trsc-{job.id}",
            "object": "translation.chunk" if task == "translate" else "transcription.chunk",
            "created": int(time.time()),
            "model": job.model,
        }
        self._said = SpeechSoFar()

    def opening(self) -> bytes:
        return b""

    def delta(self, seq: int, delta: Delta) -> bytes:
        self._said.add(delta)
        if facts_of(delta) is not None or not delta.text:
            return b""
        choice = {"delta": {"content": delta.text}}
        return self._event("transcript.text.delta", {"delta": delta.text}, [choice])

    def status(self, status: Status) -> bytes:
        return sse.waiting(status)

    def done(self, seq: int, done: Done, timings: Timings) -> bytes:
        used = {"type": "duration", "seconds": math.ceil(self._said.seconds)}
        reason = finish_reason_of(done.finish_reasons[0])
        choice = {"delta": {"content": ""}, "finish_reason": reason}
        more = {"text": self._said.text, "usage": used}
        last = self._event("transcript.text.done", more, [choice])
        if self._include_usage:
            # As vLLM tells it, if it is asked for in vLLM's words.
            counted = {**self._chunk, "choices": [], "usage": usage_of(done).model_dump()}
            last += sse.event(orjson.dumps(counted))
        return last + DONE

    def error(self, error: ApiError) -> bytes:
        return sse.event(orjson.dumps(openai_body(error)))

    def _event(self, kind: str, more: dict[str, Any], choices: list[dict[str, Any]]) -> bytes:
        return sse.event(orjson.dumps({"type": kind, **more, **self._chunk, "choices": choices}))


def _subtitles(said: SpeechSoFar, point: str, *, numbered: bool) -> Iterator[str]:
    """Yield the blocks of a file of subtitles."""
    for number, segment in enumerate(said.segments(), 1):
        head = f"{number}\n" if numbered else ""
        times = f"{_clock(segment.start, point)} --> {_clock(segment.end, point)}"
        yield f"{head}{times}\n{segment.text.strip()}\n\n"


def _clock(seconds: float, point: str) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
