"""`ew --host URL`: a real gateway and supervisor, asked from a directory that has none."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.supervision.status import RunStatus
from orchestrator.client.other_host import other_host
from tests.certificates import Authority
from tests.gateway.admin.conftest import AdminHost
from tests.orchestrator.gpu_host import running
from tests.orchestrator.terminal import Result, Terminal
from tests.waiting import eventually


@pytest.fixture(scope="module")
def host() -> Iterator[AdminHost]:
    with running(AdminHost) as host:
        yield host


@pytest.fixture
def elsewhere(tmp_path: Path) -> Terminal:
    """A place with neither a configuration nor a supervisor."""
    return Terminal(tmp_path)


def test_another_host_is_shown_and_changed(host: AdminHost, elsewhere: Terminal) -> None:
    def run(*words: str) -> Result:
        return elsewhere.run("--host", host.url, *words, EW_API_KEY=host.key)

    shown = run("status", "--json")
    assert shown.code == 0, shown
    assert {each["id"] for each in json.loads(shown.out)["models"]} == {"always", "later"}
    assert "later" in run("status").out
    assert run("load", "soon").code == 0
    assert host.is_loaded("later")
    again = run("load", "later")
    assert (again.code, again.err) == (0, "later-0 is loaded already\n")
    assert run("pin", "later").err == "later is pinned\n"
    assert run("pin", "later", "--off").err == "later may be unloaded again\n"
    assert run("unload", "later").code == 0
    assert not host.is_loaded("later")
    assert not elsewhere.state.exists(), "nothing is made here"


def test_models_logs_and_jobs_of_another_host(host: AdminHost, elsewhere: Terminal) -> None:
    def run(*words: str) -> Result:
        return elsewhere.run("--host", host.url, *words, EW_API_KEY=host.key)

    models = json.loads(run("models", "--json").out)
    assert {(each["id"], each["state"], each["engine"]) for each in models} == {
        ("always", "ready", "mock"),
        ("later", "stopped", "mock"),
    }
    assert "soon" in str(models)
    assert "always" in run("models").out
    shown = run("logs", "always", "-n", "1")
    assert (shown.code, shown.out.count("\n"), "ready after" in shown.out) == (0, 1, True), shown
    told = json.loads(run("logs", "gateway", "-n", "1", "--json").out)
    assert (told["unit"], told["process"][:7]) == ("gateway", "gateway")
    assert run("logs", "gateway", "--since", "2001-01-01").out
    missing = run("logs", "nothing")
    assert (missing.code, missing.out) == (1, "")
    assert "no log of `nothing`" in missing.err
    assert run("jobs", "list").err == "no jobs of this key; `POST /api/v1/jobs` makes one\n"
    with host.client_of(host.key) as client:
        job = client.post("/api/v1/jobs", json={"modelId": "always", "prompt": "x"}).json()
    assert job["id"] in run("jobs", "list").out
    assert "always" in run("jobs", "show", job["id"]).out
    pulled = run("models", "pull", "a/b")
    assert (pulled.code, "models pull` is about this host" in pulled.err) == (1, True), pulled
    assert not elsewhere.state.exists(), "nothing is made here"


def test_logs_of_another_host_are_followed(
    host: AdminHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EW_API_KEY", host.key)
    with host.client_of(host.key) as client:
        client.post("/api/v1/admin/models/first/load")
        with closing(other_host(host.url).follow_lines(["audit"], 1)) as pieces:
            (last,) = next(pieces)
            client.post("/api/v1/admin/models/second/load")
            (line,) = next(pieces)
    assert '"model":"first"' in last.message
    assert (line.unit, '"model":"second"' in line.text) == ("audit", True)


class _Status(BaseHTTPRequestHandler):
    """A gateway of which nothing is there but its status."""

    def do_GET(self) -> None:
        body = msgspec.json.encode(RunStatus(1.0, host="far"))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_certificate_is_checked_by_the_authority_that_is_named(
    elsewhere: Terminal, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("server", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Status) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever).start()
        url = f"https://localhost:{server.server_port}"

        def status(*words: str, **variables: str) -> Result:
            return elsewhere.run(*words, "status", "--json", EW_API_KEY="key", **variables)

        trusted = status("--host", url, "--ca", str(authority.file))
        by_variable = status("--host", url, EW_CA_FILE=str(authority.file))
        unknown = status("--host", url)
        other_name = status(
            "--host", url.replace("localhost", "127.0.0.1"), "--ca", str(authority.file)
        )
        no_file = status("--host", url, "--ca", str(tmp_path / "none.pem"))
        server.shutdown()
    assert json.loads(trusted.out)["host"] == json.loads(by_variable.out)["host"] == "far"
    assert (unknown.code, unknown.out) == (1, "")
    assert "`--ca FILE`, or EW_CA_FILE, names the authority" in unknown.err
    assert (other_name.code, "IP address mismatch" in other_name.err) == (1, True), other_name
    assert (no_file.code, "none.pem holds no certificates" in no_file.err) == (1, True), no_file


def test_the_key_may_be_in_a_file(host: AdminHost, elsewhere: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{host.key}\n")
    found = elsewhere.run("status", "--json", EW_HOST=host.url, EW_API_KEY_FILE=str(file))
    assert found.code == 0, found
    missing = elsewhere.run("status", EW_HOST=host.url, EW_API_KEY_FILE=str(tmp_path / "none"))
    assert missing.code == 1
    assert "EW_API_KEY_FILE names" in missing.err


def test_each_refusal_names_the_thing_and_the_next_step(
    host: AdminHost, elsewhere: Terminal
) -> None:
    def refused(*words: str, **environment: str) -> str:
        found = elsewhere.run(*words, **environment)
        assert found.code == 1, found
        assert found.out == ""
        return found.err

    assert "wants an operator's key" in refused("--host", host.url, "status")
    no_admin = host._key.text
    assert "scope `admin`" in refused("--host", host.url, "status", EW_API_KEY=no_admin)
    assert "refuses the key" in refused("--host", host.url, "status", EW_API_KEY="ew_wrong")
    nowhere = "http://127.0.0.1:1"
    said = refused("--host", nowhere, "status", EW_API_KEY=host.key)
    assert f"does ew run at {nowhere}?" in said
    assert "is no URL of a gateway" in refused("--host", "gpu1:8080", "status", EW_API_KEY="x")
    said = refused("--host", host.url, "start", EW_API_KEY=host.key)
    assert "`ew start` is about this host" in said.replace("./ew", "ew")
    assert "status, models, logs, jobs, keys, load, unload, pin" in said
    assert "nothing" in refused("--host", host.url, "load", "nothing", EW_API_KEY=host.key)


def test_keys_of_another_host(host: AdminHost, elsewhere: Terminal) -> None:
    def run(*words: str) -> Result:
        return elsewhere.run("--host", host.url, "keys", *words, EW_API_KEY=host.key)

    def listed(name: str) -> list[dict[str, Any]]:
        return [each for each in json.loads(run("list", "--json").out) if each["name"] == name]

    def opens(text: str) -> int:
        with host.client_of(text) as client:
            return client.get("/api/v1/models").status_code

    rights = ("--model", "al*", "--lowest-priority", "-5", "--priority", "batch", "--weight", "2")
    made = run("add", "ada", "--expires", "1h", "--owner", "Ada", *rights)
    assert (made.code, opens(made.out.strip())) == (0, 200), made
    (key,) = listed("ada")
    assert (key["models"], key["owner"], key["lowest_priority"]) == (["al*"], "Ada", -5)
    assert 3500 < key["expires_unix_s"] - key["created_unix_s"] < 3700
    assert "sha256" not in key
    assert f"{key['id']}  ada " in run("list").out

    changed = run("limit", "ada", "requests_per_minute=3", "tokens_per_day=none", "--group", "g")
    words = "requests_per_minute=3, tokens_per_day=none, group g"
    assert changed.err == f"key {key['id']}: {words}\n"
    assert run("limit", key["id"]).out == f"{words}\n"
    assert run("limit", "ada", "requests_per_minute=").err.endswith("none, group g\n")
    assert run("describe", "ada", "--note", "the seminar").code == 0
    assert listed("ada")[0]["note"] == "the seminar"

    rotated = run("rotate", "ada", "--overlap", "0s")
    eventually(lambda: opens(made.out.strip()) == 401)
    assert (rotated.code, opens(rotated.out.strip())) == (0, 200)
    assert run("revoke", "ada").code == 0
    eventually(lambda: opens(rotated.out.strip()) == 401)

    unknown = run("revoke", "ada")
    assert (unknown.code, "no live key `ada`" in unknown.err) == (1, True), unknown
    wrong = run("add", "x", "--group", "no group")
    assert wrong.code == 1
    assert "group" in wrong.err
    local = run("anonymous", "ada")
    assert (local.code, "keys anonymous` is about this host" in local.err) == (1, True), local
    assert not elsewhere.state.exists(), "nothing is made here"
