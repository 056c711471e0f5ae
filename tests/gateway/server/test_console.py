"""The console over HTTP: its files, and sessions in the place of keys."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie

import httpx
import pytest

from contract.keys import make_key
from contract.paths import ROOT
from gateway.http import sessions
from gateway.http.sessions import COOKIE, LASTS_S
from tests.gateway.conftest import Gateway
from tests.waiting import eventually

FOLDER = ROOT / "gateway/server/console_page"
MANIFEST = json.loads((FOLDER / "vendor/manifest.json").read_text())
PAGE = {"x-ew-console": "1"}
#: Modules that import nothing.
LEAVES = {"alerts.js", "api.js", "asking.js", "format.js", "snippets.js"}


@pytest.fixture
def page(gateway: Gateway) -> Iterator[httpx.Client]:
    """A browser that has the page."""
    with httpx.Client(base_url=gateway.url, headers=PAGE, timeout=30) as client:
        yield client


@pytest.fixture
def signed_in(gateway: Gateway, page: httpx.Client) -> httpx.Client:
    answer = page.post("/console/session", json={"key": gateway.key.text})
    assert answer.status_code == 200, answer.text
    assert "Secure" not in answer.headers["set-cookie"]
    return page


def test_the_page_needs_no_key_and_lets_nothing_in_from_elsewhere(gateway: Gateway) -> None:
    with httpx.Client(base_url=gateway.url) as client:
        for path in ("/", "/console/"):
            root = client.get(path)
            assert (root.status_code, root.headers["location"]) == (307, "/console")
        page = client.get("/console")
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        assert page.headers["x-frame-options"] == "DENY"
        links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert links
        for link in links:
            found = client.get(link)
            assert link.startswith("/console/")
            assert found.status_code == 200, link
            assert found.headers["content-security-policy"]
        assert "<style" not in page.text
        assert not re.search(r"<script(?![^>]*src=)", page.text)
        for other in ("vendor/manifest.json", "vendor/htm.LICENSE", "..%2Fapp.py", "none.js"):
            assert client.get(f"/console/{other}").status_code == 404, other


def test_a_file_that_is_the_same_is_not_sent_again(gateway: Gateway) -> None:
    with httpx.Client(base_url=gateway.url) as client:
        first = client.get("/console/app.js")
        assert first.headers["cache-control"] == "no-cache"
        again = client.get("/console/app.js", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_what_is_imported_is_there_and_nothing_is_loaded_from_elsewhere() -> None:
    scripts = [path for path in FOLDER.rglob("*.js") if path.parent.name != "vendor"]
    assert len(scripts) > 10
    for path in [*scripts, *(FOLDER / "vendor").glob("*.js")]:
        imported = re.findall(r"""(?:from|import\()\s*["'](\.[^"']+)["']""", path.read_text())
        assert imported or path.parent.name == "vendor" or path.name in LEAVES, path.name
        for name in imported:
            assert (path.parent / name).is_file(), f"{path.name} imports {name}"


def test_what_others_wrote_is_as_the_manifest_pins_it_with_its_licence() -> None:
    names = {path.name for path in (FOLDER / "vendor").iterdir()} - {"manifest.json"}
    assert names == MANIFEST["sha256"].keys()
    for name, digest in MANIFEST["sha256"].items():
        content = (FOLDER / "vendor" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest, name
    for package in MANIFEST["packages"]:
        assert package["integrity"].startswith("sha512-")
        assert package["license"]
        assert any(name.endswith(".LICENSE") for name in package["files"].values())
        assert set(package["files"].values()) <= names


def test_a_session_opens_what_its_key_opens(gateway: Gateway, signed_in: httpx.Client) -> None:
    session = signed_in.get("/console/session").json()
    assert (session["key_id"], session["admin"]) == (gateway.key.record.id, False)
    assert signed_in.get("/v1/models").status_code == 200
    assert signed_in.get("/api/v1/admin/status").json()["code"] == "scope_missing"
    assert signed_in.delete("/console/session").status_code == 204
    assert signed_in.get("/console/session").status_code == 401
    assert signed_in.get("/v1/models").status_code == 401


def test_the_cookie_is_for_the_page_alone(gateway: Gateway, page: httpx.Client) -> None:
    answer = page.post(
        "/console/session",
        json={"key": gateway.key.text},
        headers={"x-forwarded-proto": "https"},
    )
    header = answer.headers["set-cookie"]
    for attribute in ("HttpOnly", "SameSite=Strict", "Path=/", "Secure"):
        assert attribute in header
    secret = gateway.key.text.split("_")[2]
    assert secret not in header
    with httpx.Client(base_url=gateway.url, timeout=30) as plain:
        cookie = {"cookie": f"{COOKIE}={SimpleCookie(header)[COOKIE].value}"}
        assert plain.get("/v1/models", headers={**cookie, **PAGE}).status_code == 200
        elsewhere = [
            {},
            {**PAGE, "sec-fetch-site": "same-site"},
            {**PAGE, "sec-fetch-site": "cross-site"},
            {**PAGE, "origin": "http://127.0.0.1:1"},
            {**PAGE, "origin": "null"},
        ]
        for headers in elsewhere:
            answer = plain.get("/v1/models", headers={**cookie, **headers})
            assert answer.status_code == 401, headers
            answer = plain.post(
                "/api/v1/inference", headers={**cookie, **headers}, json={"modelId": "m"}
            )
            assert answer.status_code == 401, headers
            answer = plain.post("/console/session", headers=headers, json={"key": gateway.key.text})
            assert answer.status_code == 404, headers
            assert "set-cookie" not in answer.headers


def test_wrong_keys_and_bad_bodies_begin_no_session(page: httpx.Client) -> None:
    wrong = page.post("/console/session", json={"key": make_key().text})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_api_key")
    assert page.post("/console/session", json={"name": "x"}).status_code == 422
    assert page.post("/console/session", content=b"x" * 2000).status_code == 413
    assert "set-cookie" not in wrong.headers


def test_a_session_ends_with_its_key_and_after_its_time(
    redis_url: str, new_gateway: Callable[..., Gateway]
) -> None:
    gateway = new_gateway(redis_url)
    other = make_key("other")
    gateway.write_keys(gateway.key, other)
    record = other.record
    expired = int(time.time()) - 1
    forged = f"{record.id}.{expired + 2 * LASTS_S}.{sessions._sign(record, expired)}"
    late = f"{record.id}.{expired}.{sessions._sign(record, expired)}"
    with httpx.Client(base_url=gateway.url, headers=PAGE, timeout=30) as client:
        for value in (forged, late, "x", f"{record.id}.1.{'0' * 64}"):
            answer = client.get("/v1/models", headers={"cookie": f"{COOKIE}={value}"})
            assert answer.status_code == 401, value
        client.post("/console/session", json={"key": other.text})
        assert client.get("/v1/models").status_code == 200
        gateway.write_keys(gateway.key)
        eventually(lambda: client.get("/v1/models").status_code == 401)
