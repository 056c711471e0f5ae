"""Transcriptions and translations of speech, which no worker of ew makes: a refusal that says so,
once the key and the model are known to be good."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from gateway.api.openapi import OPENAI_GENERATION_ERRORS
from gateway.batches.upload_body import UploadBody
from gateway.http.errors import ApiError, invalid
from gateway.http.headers import context_of
from gateway.lifecycle.process import process_of

router = APIRouter(prefix="/v1/audio", tags=["openai"], include_in_schema=False)
#: As OpenAI's.
_LARGEST_BYTES: Final = 25 * 1024 * 1024


class _Nowhere:
    """Where a file goes that is not read."""

    def __init__(self) -> None:
        self._size = 0

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > _LARGEST_BYTES:
            raise ApiError("body_too_large", f"the file has more than {_LARGEST_BYTES} bytes")


@router.post("/transcriptions", responses=OPENAI_GENERATION_ERRORS, response_class=Response)
@router.post("/translations", responses=OPENAI_GENERATION_ERRORS, response_class=Response)
async def refuse_speech(request: Request) -> Response:
    """Raises `ApiError`, always."""
    process, key = process_of(request), context_of(request.scope).key
    if key is None:
        raise ApiError("missing_api_key", "send an API key")
    body = UploadBody(_Nowhere())
    await body.read(request)
    name = body.fields.get("model", "")
    if not name:
        raise invalid("model", "required")
    if process.models.find(name, key) is None:
        raise ApiError("model_not_found", f"there is no model `{name[:96]}`")
    message = (
        f"ew does not serve speech, so `{name}` cannot transcribe or translate it: ask the server "
        "of a speech model directly, such as `vllm serve openai/whisper-small`"
    )
    raise ApiError("invalid_request", message, field="model")
