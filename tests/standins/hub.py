"""A hub that behaves like huggingface.co where huggingface_hub 2.4 meets it, on loopback: an API
that lists revisions and trees page by page, files that are small (served at once, named by git's
hash) or large (named by their SHA-256, served from another address by a redirect), tokens, gates,
and what goes wrong on the way.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

#: From here on a file is a large one.
LARGE_BYTES: Final = 4096
_PAGE: Final = 3
_PIECE: Final = 1024


class Repository(NamedTuple):
    """Files by path, at one commit. `revisions` are its names; `gated` wants an agreement that only
    `agreed` tokens have given; `private` shows itself to those tokens alone."""

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    private: bool = False
    agreed: tuple[str, ...] = ()

    @property
    def commit(self) -> str:
        digest = hashlib.sha1(usedforsecurity=False)
        for path, content in sorted(self.files.items()):
            digest.update(path.encode() + b"\0" + content)
        return digest.hexdigest()


class Fault(NamedTuple):
    """A fault of a file, so many times: its connection is `cut` after so many bytes, or
    an HTTP `status` is the answer."""

    times: int
    cut: int | None = None
    status: int | None = None


class Hub:
    """The hub and its content delivery network: two servers."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens: set[str] = set()
        self.faults: dict[str, Fault] = {}
        #: Whether the delivery network understands ranges.
        self.knows_ranges = True
        #: While it is clear, large files stop after so many bytes, and wait.
        self.stops_after = 0
        self.flows = threading.Event()
        self.flows.set()
        #: Everything that was asked for: method, path, range.
        self.requests: list[tuple[str, str, str]] = []
        self._hub = self._server(_HubHandler)
        self._network = self._server(_NetworkHandler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._hub.server_port}"

    @property
    def network_url(self) -> str:
        return f"http://localhost:{self._network.server_port}"

    def close(self) -> None:
        self.flows.set()
        for server in (self._hub, self._network):
            server.shutdown()
            server.server_close()

    def fetched(self, path: str) -> list[str]:
        """Return the ranges in which the content of a file was asked for."""
        return [span for method, asked, span in self.requests if (method, asked) == ("GET", path)]

    def take_fault(self, path: str) -> Fault | None:
        fault = self.faults.get(path)
        if fault is None or fault.times == 0:
            return None
        self.faults[path] = fault._replace(times=fault.times - 1)
        return fault

    def _server(self, handler: type[_Handler]) -> ThreadingHTTPServer:
        bound = type(handler.__name__, (handler,), {"hub": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    try:
        yield hub
    finally:
        hub.close()


class _Refusal(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Tests are quiet."""

    def respond(self) -> None:
        raise NotImplementedError

    def _answer(self) -> None:
        span = self.headers.get("Range", "")
        self.hub.requests.append((self.command, urlsplit(self.path).path, span))
        try:
            self.respond()
        except _Refusal as refusal:
            self.send(refusal.status, json.dumps({"error": str(refusal)}).encode(), refusal.headers)

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def send_file(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        """With ranges, and with the faults that a test asked for."""
        fault = self.hub.take_fault(path)
        if fault is not None and fault.status is not None:
            raise _Refusal(fault.status, "", "scripted")
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status, begin, end = 200, 0, len(content)
        if match and self.hub.knows_ranges:
            begin, end = int(match[1]), min(end, int(match[2] or end) + 1)
            status = 206
            headers = headers | {"Content-Range": f"bytes {begin}-{end - 1}/{len(content)}"}
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(end - begin)}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._write(content[begin:end], None if fault is None else fault.cut)

    def _write(self, content: bytes, cut: int | None) -> None:
        for at in range(0, len(content), _PIECE):
            if cut is not None and at >= cut:
                self.wfile.flush()
                self.close_connection = True
                return
            self.wfile.write(content[at : at + _PIECE])
            if len(content) >= LARGE_BYTES and at >= self.hub.stops_after:
                self.hub.flows.wait(60)


class _HubHandler(_Handler):
    """The API, small files, and redirects to large ones."""

    def respond(self) -> None:
        path = urlsplit(self.path).path
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/([^/]+)", path):
            self._info(*match.groups())
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self._tree(*match.groups())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*match.groups())
        else:
            raise _Refusal(404, "", "Sorry, we can't find the page you are looking for.")

    def _repository(self, name: str, revision: str) -> Repository:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise _Refusal(401, "", "Invalid credentials in Authorization header")
        found = self.hub.repositories.get(name)
        if found is None or (found.private and token not in found.agreed):
            # Strangers are not told which of the two it is.
            status = 404 if token else 401
            code = "RepoNotFound" if token else ""
            raise _Refusal(status, code, "Repository not found" if token else "Invalid username")
        if revision not in (found.commit, *found.revisions):
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def _info(self, name: str, revision: str) -> None:
        found = self._repository(name, revision)
        info = {
            "_id": "1",
            "id": name,
            "sha": found.commit,
            "private": found.private,
            "gated": "manual" if found.gated else False,
            "siblings": [{"rfilename": path} for path in sorted(found.files)],
        }
        self.send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _tree(self, name: str, revision: str) -> None:
        found = self._repository(name, revision)
        start = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        entries = [_entry(path, content) for path, content in sorted(found.files.items())]
        headers = {"Content-Type": "application/json"}
        if start + _PAGE < len(entries):
            address = f"{self.hub.url}{urlsplit(self.path).path}?recursive=true"
            headers["Link"] = f'<{address}&cursor={start + _PAGE}>; rel="next"'
        self.send(200, json.dumps(entries[start : start + _PAGE]).encode(), headers)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        found = self._repository(name, revision)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if found.gated and token not in found.agreed:
            message = (
                f"Access to model {name} is restricted and you are not in the authorized list."
            )
            raise _Refusal(403 if token else 401, "GatedRepo", message)
        content = found.files.get(path)
        if content is None:
            raise _Refusal(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": found.commit, "Accept-Ranges": "bytes"}
        if len(content) < LARGE_BYTES:
            self.send_file(path, content, headers | {"ETag": f'"{git_hash(content)}"'})
            return
        headers |= {
            "X-Linked-Size": str(len(content)),
            "X-Linked-ETag": f'"{sha256(content)}"',
            "Location": f"{self.hub.network_url}/{name}/{path}",
        }
        self.send(302, b"", headers)


class _NetworkHandler(_Handler):
    """Large files, to every client that has the address. A token must never come here."""

    def respond(self) -> None:
        if "Authorization" in self.headers:
            raise _Refusal(400, "", "a token was sent to a stranger")
        owner, name, path = urlsplit(self.path).path.lstrip("/").split("/", 2)
        content = self.hub.repositories[f"{owner}/{name}"].files[path]
        self.send_file(path, content, {"ETag": '"other"', "Accept-Ranges": "bytes"})


def git_hash(content: bytes) -> str:
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
    if len(content) >= LARGE_BYTES:
        oid = {"oid": sha256(content), "size": len(content), "pointerSize": 135}
        return entry | {"lfs": oid}
    return entry
