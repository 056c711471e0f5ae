"""Files in OpenAI's API: uploaded for batches, and made by them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import FileResponse

from gateway.api.batches.bodies import FileDeleted, FileList, FileObject
from gateway.api.batches.disk_errors import told_of_disk
from gateway.api.openapi import OPENAI_ERRORS, OPENAI_GENERATION_ERRORS
from gateway.batches.file_store import FileRecord, FileStore
from gateway.batches.upload_body import UploadBody
from gateway.http.errors import ApiError, invalid
from gateway.http.headers import context_of

router = APIRouter(prefix="/v1/files", tags=["batches"])
_PURPOSES: Final = ("batch",)
_LEAST_KEPT_S: Final = 3600
_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"const": "batch"},
                        "expires_after[anchor]": {"const": "created_at"},
                        "expires_after[seconds]": {"type": "integer", "minimum": _LEAST_KEPT_S},
                    },
                }
            }
        },
    }
}


def files_of(request: Request) -> FileStore:
    """Return the files of this host."""
    files: FileStore = request.app.state.files
    return files


@router.post(
    "",
    summary="Upload a file",
    openapi_extra=_FORM,
    responses=OPENAI_GENERATION_ERRORS,
)
async def create_file(request: Request) -> FileObject:
    with told_of_disk():
        return FileObject.of(await _uploaded(request, files_of(request)))


async def _uploaded(request: Request, files: FileStore) -> FileRecord:
    """Raises `ApiError`, `StoreFull`, `OSError`."""
    upload = await asyncio.to_thread(files.begin, _key_id(request))
    try:
        body = UploadBody(upload)
        await body.read(request)
        if body.fields.get("purpose") not in _PURPOSES:
            raise invalid("purpose", "must be `batch`")
        keep_s = _keep_s(body.fields, files.config.keep_s)
        return await asyncio.to_thread(
            upload.finish, body.filename or "upload", body.fields["purpose"], keep_s
        )
    except BaseException:
        upload.abandon()
        raise


@router.get("", summary="The files of this key", responses=OPENAI_ERRORS)
async def list_files(
    request: Request,
    purpose: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    after: str | None = None,
    order: Literal["asc", "desc"] = "desc",
) -> FileList:
    found = await asyncio.to_thread(files_of(request).of_key, _key_id(request))
    if order == "asc":
        found.reverse()
    of_purpose = [each for each in found if purpose in (None, each.purpose)]
    return FileList.of(of_purpose, FileObject.of, after, limit)


@router.get("/{file_id}", summary="A file", responses=OPENAI_ERRORS)
async def retrieve_file(request: Request, file_id: str) -> FileObject:
    return FileObject.of(await own_file(request, file_id))


@router.get(
    "/{file_id}/content",
    summary="The content of a file",
    responses={200: {"content": {"application/octet-stream": {}}}, **OPENAI_ERRORS},
    response_class=Response,
)
async def file_content(request: Request, file_id: str) -> Response:
    record = await own_file(request, file_id)
    path = files_of(request).path(record.id)
    return FileResponse(path, media_type="application/octet-stream")


@router.delete("/{file_id}", summary="Delete a file", responses=OPENAI_ERRORS)
async def delete_file(request: Request, file_id: str) -> FileDeleted:
    record = await own_file(request, file_id)
    await asyncio.to_thread(files_of(request).remove, record.id)
    return FileDeleted(id=record.id)


async def own_file(request: Request, file_id: str) -> FileRecord:
    """Return a file of the key that asks. Raises `ApiError`."""
    record = await asyncio.to_thread(files_of(request).find, file_id)
    if record is None or record.key_id != _key_id(request):
        raise ApiError("file_not_found", "there is no such file, or it is no longer kept")
    return record


def _key_id(request: Request) -> str:
    key = context_of(request.scope).key
    if key is None:
        raise ApiError("missing_api_key", "send an API key")
    return key.id


def _keep_s(fields: dict[str, str], most: int) -> int:
    given = fields.get("expires_after[seconds]")
    if given is None:
        return most
    if not given.isdigit() or int(given) < _LEAST_KEPT_S:
        raise invalid("expires_after.seconds", f"at least {_LEAST_KEPT_S}")
    return min(int(given), most)
