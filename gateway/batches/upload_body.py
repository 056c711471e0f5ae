"""A body of `multipart/form-data` with a file in it, written to the disk as it comes: gigabytes
need no more memory than their pieces."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from gateway.batches.file_store import StoreFull
from gateway.http.errors import ApiError
from gateway.http.headers import header
from gateway.http.peer import LONG_BODY_EXTENSION

_MOST_FIELDS: Final = 16
_LONGEST_FIELD: Final = 1_024
_WRITE_AT_ONCE: Final = 1 << 20


class Sink(Protocol):
    """Where the bytes of a file go, in a thread."""

    def write(self, data: bytes) -> None:
        """Raises `StoreFull`, `ApiError`, `OSError`."""


class UploadBody:
    """Reads one body into an upload, or another sink. `fields` are those beside the file."""

    def __init__(self, upload: Sink) -> None:
        self.fields: dict[str, str] = {}
        self.filename = ""
        self._upload = upload
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._header = b""
        self._value = b""
        self._disposition: dict[bytes, bytes] = {}
        self._field = bytearray()
        self._has_file = self._is_file = False

    async def read(self, request: Request) -> None:
        """Raises `ApiError`, `OSError`."""
        request.scope.get("extensions", {}).get(LONG_BODY_EXTENSION, _nothing)()
        kind, options = parse_options_header(
            header(request.scope["headers"], b"content-type") or b""
        )
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise ApiError("bad_multipart", "send the file as multipart/form-data")
        self._is_complete = False
        try:
            parser = self._parser(boundary)
            async for piece in request.stream():
                parser.write(piece)
                if self._gathered >= _WRITE_AT_ONCE:
                    await self._write()
            await self._write()
        except FormParserError as error:
            raise ApiError("bad_multipart", f"the body is no multipart form: {error}") from None
        except StoreFull as full:
            raise ApiError("files_full", str(full)) from None
        if not self._is_complete:
            raise ApiError("incomplete_body", "the form ended before its last boundary")
        if not self._has_file:
            raise ApiError("invalid_request", "`file`: required", field="file")

    def _parser(self, boundary: bytes) -> MultipartParser:
        """Raises `FormParserError`."""
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header,
                "on_header_value": self._on_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    async def _write(self) -> None:
        pieces, self._pieces, self._gathered = self._pieces, [], 0
        if pieces:
            await asyncio.to_thread(self._upload.write, b"".join(pieces))

    def _begin(self) -> None:
        self._disposition, self._field = {}, bytearray()
        self._header = self._value = b""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = parse_options_header(self._value)[1]
        self._header = self._value = b""

    def _end_headers(self) -> None:
        self._is_file = b"filename" in self._disposition
        if self._is_file:
            if self._has_file or self._disposition.get(b"name") != b"file":
                raise ApiError("bad_multipart", "send one file, as the field `file`")
            self._has_file = True
            self.filename = self._disposition[b"filename"].decode(errors="replace")[:255]

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._pieces.append(data[start:end])
            self._gathered += end - start
        else:
            self._field += data[start:end]
            if len(self._field) > _LONGEST_FIELD:
                raise ApiError("bad_multipart", "a field of the form is too long")

    def _end(self) -> None:
        if not self._is_file:
            name = self._disposition.get(b"name", b"").decode(errors="replace")
            self.fields[name] = bytes(self._field).decode(errors="replace")
            if len(self.fields) > _MOST_FIELDS:
                raise ApiError("bad_multipart", "the form has too many fields")

    def _finish(self) -> None:
        self._is_complete = True


def _nothing() -> None:
    """Another server has deadlines of its own."""
