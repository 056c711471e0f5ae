"""Speech written down, as vLLM's own server does it: decoded and cut into clips by vLLM, which are
read one after the other, each in the model's own form of a prompt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from contract.asked import Speech
from contract.media import media_of, speech_head
from contract.messages import ErrorCode, Job
from workers.engine import JobRejected
from workers.engines.vllm.answer import FINISH
from workers.engines.vllm.media.sounds import decoded
from workers.engines.vllm.requests import REFUSALS, sampling_params, trace_arguments
from workers.outbox import Outbox

try:
    from vllm.config.speech_to_text import SpeechToTextParams
    from vllm.model_executor.model_loader import get_model_cls
    from vllm.multimodal.audio import split_audio
    from vllm.renderers.inputs.preprocess import parse_enc_dec_prompt, parse_model_prompt
except ImportError:  # Before 0.32.
    SpeechToTextParams = None

log = logging.getLogger(__name__)


class Clips(NamedTuple):
    """A speech in clips that the model can read at once."""

    clips: list[Any]
    #: Of all of them together.
    seconds: float


class Transcriber:
    """Writes down speech by a model that can. `broke` is told of a request that vLLM failed on."""

    def __init__(
        self,
        engine: Any,
        model: Any,
        outbox: Outbox,
        defaults: dict[str, Any],
        broke: Callable[..., None],
    ) -> None:
        self._engine = engine
        self._model = model
        self._outbox = outbox
        self._defaults = defaults
        self._broke = broke
        self._config = engine.vllm_config.model_config
        self._running: dict[str, asyncio.Task[None]] = {}

    def has_to_do(self, job: Job) -> bool:
        """Whether the job is a speech, or its model does nothing but write down speech."""
        return job.speech is not None or getattr(self._model, "supports_transcription_only", False)

    async def submit(self, job: Job) -> None:
        """Begin to write a speech down. Raises `JobRejected`."""
        asked = job.speech
        if asked is None:
            message = f"model `{job.model}` writes down speech alone: /v1/audio/transcriptions"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message)
        if asked.timed and not getattr(self._model, "supports_segment_timestamp", False):
            message = f"model `{job.model}` does not tell when something was said"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message)
        if job.sent:
            self._outbox.suppress(job.id, job.sent)
        settings = self._model.get_speech_to_text_config(self._config, asked.task)
        try:
            language = self._model.validate_language(asked.language or None)
            clips = await asyncio.to_thread(_clips_of, media_of(job)[0].data, settings, asked)
        # Decoders raise what they like.
        except Exception as error:
            message = f"the speech cannot be read: {error}"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message) from error
        writing = asyncio.create_task(self._write(job, asked, settings, clips, language))
        self._running[job.id] = writing
        writing.add_done_callback(lambda _: self._running.pop(job.id, None))

    def cancel(self, job_id: str) -> bool:
        """Give a job up. Returns whether it was one of these."""
        writing = self._running.get(job_id)
        return writing is not None and writing.cancel()

    async def _write(
        self, job: Job, asked: Speech, settings: Any, speech: Clips, language: str | None
    ) -> None:
        try:
            if language is None and getattr(
                self._model, "supports_explicit_language_detection", False
            ):
                language = await self._language_of(job, settings, speech)
            facts = {"seconds": speech.seconds, "language": language or ""}
            await self._write_clips(job, asked, settings, speech, facts)
        except JobRejected as error:
            self._outbox.failed(job.id, error.code, str(error))
        except REFUSALS as error:
            self._outbox.failed(job.id, ErrorCode.INVALID_REQUEST, str(error))
        except Exception as error:
            self._broke(job.id, error)

    async def _write_clips(
        self, job: Job, asked: Speech, settings: Any, speech: Clips, facts: dict[str, Any]
    ) -> None:
        language = facts["language"] or None
        spaces = "" if language in getattr(self._model, "no_space_languages", ()) else " "
        start_s, prompt_tokens, reason = 0.0, 0, "stop"
        for number, clip in enumerate(speech.clips):
            self._outbox.delta(job.id, speech_head(**{"from": start_s}, **facts), ())
            prompt = await self._prompt(job, asked, settings, clip, language)
            ids = _ids_of(prompt)
            prompt_tokens += len(ids)
            before = spaces if number and not asked.timed else ""
            params = self._params(job, asked, len(ids))
            reader = None if asked.timed else _reader_of(self._model)
            async for choice in self._outputs(job, f"{job.id}.{number}", prompt, params):
                text = choice.text
                if reader is not None:
                    text = reader.process_delta(text, choice.finish_reason is not None)
                if text:
                    text, before = before + text, ""
                self._outbox.delta(job.id, text, choice.token_ids)
                reason = choice.finish_reason or reason
            start_s += clip.shape[-1] / settings.sample_rate
            facts = {}
        self._outbox.done(job.id, (FINISH.get(reason, "stop"),), prompt_tokens)

    async def _outputs(
        self, job: Job, request_id: str, prompt: Any, params: Any
    ) -> AsyncIterator[Any]:
        """Yield the new parts of what the model makes of a clip."""
        arguments = trace_arguments(job)
        async for output in self._engine.generate(prompt, params, request_id, **arguments):
            yield output.outputs[0]

    async def _language_of(self, job: Job, settings: Any, speech: Clips) -> str:
        """Return the language of the first clip, as the model hears it."""
        tokenizer = self._engine.renderer.tokenizer
        prompt = self._model.get_language_detection_prompt(speech.clips[0], settings)
        allowed = self._model.get_language_token_ids(tokenizer)
        params = SamplingParams(
            max_tokens=1,
            temperature=0,
            allowed_token_ids=allowed,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        heard: list[int] = []
        async for choice in self._outputs(job, f"{job.id}.language", prompt, params):
            heard = list(choice.token_ids)
        return str(self._model.parse_language_detection_output(heard, tokenizer))

    async def _prompt(
        self, job: Job, asked: Speech, settings: Any, clip: Any, language: str | None
    ) -> Any:
        """Return what vLLM reads of a clip."""
        said = job.messages[0].content if job.messages else ""
        written = self._model.get_generation_prompt(
            SpeechToTextParams(
                audio=clip,
                stt_config=settings,
                model_config=self._config,
                language=language,
                task_type=asked.task,
                request_prompt=said,
            )
        )
        if asked.timed:
            parsed: Any = parse_enc_dec_prompt(written)
            decoder = parsed["decoder_prompt"]
            decoder["prompt"] = decoder["prompt"].replace("<|notimestamps|>", "<|0.00|>")
        else:
            parsed = parse_model_prompt(self._config, written)
        return (await self._engine.renderer.render_cmpl_async([parsed]))[0]

    def _params(self, job: Job, asked: Speech, prompt_tokens: int) -> Any:
        room = self._config.max_model_len - prompt_tokens
        most = min(job.sampling.max_tokens or room, room)
        more = {"skip_special_tokens": not asked.timed}
        return sampling_params(job, self._defaults, most, 0, more)


def transcriber(
    engine: Any, outbox: Outbox, defaults: dict[str, Any], broke: Callable[..., None]
) -> Transcriber | None:
    """Return what writes down speech, if this model and this release can."""
    if SpeechToTextParams is None:
        return None
    model = get_model_cls(engine.vllm_config.model_config)
    if not getattr(model, "supports_transcription", False):
        return None
    return Transcriber(engine, model, outbox, defaults, broke)


def _clips_of(sound: bytes, settings: Any, asked: Speech) -> Clips:
    """Return a sound in clips. Raises what decoders raise."""
    samples, seconds = decoded(sound, settings.sample_rate, asked.most_s)
    longest = settings.max_audio_clip_s
    if not settings.allow_audio_chunking or longest is None or seconds <= longest:
        return Clips([samples], seconds)
    clips = split_audio(
        audio_data=samples,
        sample_rate=int(settings.sample_rate),
        max_clip_duration_s=longest,
        overlap_duration_s=settings.overlap_chunk_second,
        min_energy_window_size=settings.min_energy_split_window_size,
    )
    return Clips(list(clips), seconds)


def _ids_of(prompt: Any) -> list[int]:
    """Return the tokens that the answer follows."""
    read = prompt["decoder_prompt"] if prompt.get("type") == "enc_dec" else prompt
    return list(read["prompt_token_ids"])


def _reader_of(model: Any) -> Any:
    """Return what takes out of a clip's text what is none, in models that write such."""
    make = getattr(model, "get_streaming_post_processor_cls", None)
    return make()() if make is not None else None
