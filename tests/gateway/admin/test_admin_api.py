"""`/api/v1/admin`: the real supervisor, gateway and workers over scripted GPUs."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import httpx
import pytest

from contract.paths import log_path
from orchestrator.client.gateway_client import ServerSentEvent, read_events
from tests.gateway.admin.conftest import ADMIN, AdminHost
from tests.waiting import eventually

ROUTES = [
    ("GET", "/status"),
    ("GET", "/status/stream"),
    ("GET", "/history"),
    ("GET", "/requests"),
    ("POST", "/requests/{job_id}/cancel"),
    ("GET", "/requests/{job_id}/trace"),
    ("GET", "/audit"),
    ("POST", "/models/{model}/start"),
    ("GET", "/config/schema"),
    ("GET", "/config/models"),
    ("PATCH", "/config/models/{model}"),
    ("POST", "/models/{model}/load"),
    ("POST", "/models/{model}/unload"),
    ("POST", "/models/{model}/pin"),
    ("POST", "/models/{model}/unpin"),
    ("POST", "/models/{model}/restart"),
    ("POST", "/gateway/restart"),
    ("GET", "/batches"),
    ("POST", "/batches/{batch_id}/cancel"),
    ("GET", "/tasks"),
    ("GET", "/tasks/{task_id}"),
    ("POST", "/tasks/bench"),
    ("POST", "/tasks/pull"),
    ("POST", "/tasks/estimate"),
    ("POST", "/tasks/{task_id}/cancel"),
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("PATCH", "/keys/{key_id}"),
    ("POST", "/keys/{key_id}/rotate"),
    ("DELETE", "/keys/{key_id}"),
    ("GET", "/logs"),
    ("GET", "/logs/units"),
    ("GET", "/logs/stream"),
]


@contextmanager
def stream_of(client: httpx.Client, path: str) -> Iterator[Iterator[ServerSentEvent]]:
    with client.stream("GET", ADMIN + path) as answer:
        assert answer.status_code == 200
        yield read_events(answer.iter_lines())


def state_of(client: httpx.Client, model: str) -> str:
    models = client.get(f"{ADMIN}/status").json()["models"]
    return str(next(each["state"] for each in models if each["id"] == model))


def open_requests(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"{ADMIN}/requests").json()["open"]
    return found


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_is_for_keys_with_the_scope(
    admin_host: AdminHost, method: str, path: str
) -> None:
    path = re.sub(r"\{\w+\}", "none", path)
    with admin_host.client() as client:
        answer = client.request(method, ADMIN + path)
        assert answer.status_code == 403
        assert answer.json()["code"] == "scope_missing"
        assert "scope `admin`" in answer.json()["message"]
        assert httpx.request(method, admin_host.url + ADMIN + path).status_code == 401


def test_the_routes_above_are_all_there_are(admin: httpx.Client) -> None:
    paths = admin.get("/openapi.json").json()["paths"]
    described = {
        (method.upper(), path.removeprefix(ADMIN))
        for path, methods in paths.items()
        if path.startswith(ADMIN)
        for method in methods
    }
    assert described == set(ROUTES)


def test_requests_without_a_key_never_administer(admin_host: AdminHost) -> None:
    refused = admin_host.run("keys", "anonymous", "ops")
    assert refused.code == 1
    assert "requests without a key may not have it" in refused.err


def test_the_status_is_that_of_the_command(admin_host: AdminHost, admin: httpx.Client) -> None:
    told = json.loads(admin_host.run("status", "--json").out)
    found = admin.get(f"{ADMIN}/status").json()
    assert found.keys() == told.keys()
    assert [each["uuid"] for each in found["gpus"]] == ["GPU-a", "GPU-b"]
    assert {each["id"]: each["state"] for each in found["models"]} == {
        "always": "ready",
        "later": "stopped",
    }


def test_a_model_is_loaded_and_unloaded_and_the_stream_tells(admin: httpx.Client) -> None:
    with stream_of(admin, "/status/stream") as events:
        first = next(events)
        assert first.name == "status"
        document = json.loads(first.data)
        with httpx.Client(base_url=admin.base_url, headers=admin.headers, timeout=60) as other:
            asked = other.post(f"{ADMIN}/models/soon/load")
            assert (asked.status_code, asked.json()["done"]) == (202, False)
            _until_state(events, document, "later", "ready")
            gone = other.post(f"{ADMIN}/models/later/unload", params={"wait": True})
        assert gone.status_code == 200, gone.text
        assert gone.json()["outcomes"][0]["slot"] == "later-0"
        _until_state(events, document, "later", "stopped")


def _until_state(
    events: Iterator[ServerSentEvent], document: dict[str, Any], model: str, state: str
) -> None:
    """Lay changes over a document until it says so."""
    for event in events:
        assert event.name == "change"
        document.update(json.loads(event.data))
        if any(each["id"] == model and each["state"] == state for each in document["models"]):
            return
    pytest.fail("the stream ended")


def test_a_model_is_pinned_and_restarted(admin: httpx.Client) -> None:
    assert admin.post(f"{ADMIN}/models/later/pin").json()["done"]
    again = admin.post(f"{ADMIN}/models/later/pin").json()
    assert again["outcomes"][0]["note"] == "is pinned already"
    assert admin.post(f"{ADMIN}/models/later/unpin").json()["done"]
    models = admin.get(f"{ADMIN}/status").json()["models"]
    before = next(each["workers"][0]["name"] for each in models if each["id"] == "always")
    done = admin.post(f"{ADMIN}/models/always/restart", params={"wait": True}).json()
    assert (done["done"], done["outcomes"][0]["state"]) == (True, "ready")
    models = admin.get(f"{ADMIN}/status").json()["models"]
    assert next(each["workers"][0]["name"] for each in models if each["id"] == "always") != before


def test_an_entry_is_checked_changed_and_added(admin_host: AdminHost, admin: httpx.Client) -> None:
    file = admin_host.terminal.config
    file.write_text("// mine\n" + file.read_text())
    entries = admin.get(f"{ADMIN}/config/models").json()
    assert entries["models"]["later"]["settings"]["load"] == "on-demand"
    assert entries["models"]["later"]["in_file_only"] == ["engine_args"]

    def patch(model: str, check: bool = False, **settings: Any) -> httpx.Response:
        body = {"revision": entries["revision"], "settings": settings}
        path = f"{ADMIN}/config/models/{model}"
        return admin.patch(path, json=body, params={"check": check})

    before = file.read_text()
    wrong = patch("later", replicas=0)
    assert (wrong.status_code, wrong.json()["field"]) == (409, "models.later.replicas"), wrong.text
    assert "it must be a whole number from 1 to 64" in wrong.json()["message"]
    for key, value in {"command": ["sh"], "engine_args": {}, "trust_remote_code": True}.items():
        refused = patch("later", **{key: value})
        assert (refused.status_code, refused.json()["field"]) == (422, f"settings.{key}")
        assert str(file) in refused.json()["message"]
    tried = patch("always", check=True, max_input_len=99).json()
    needed = [{"key": "models.always.max_input_len", "needs": "./ew restart always"}]
    assert (tried["waiting"], tried["revision"]) == (needed, entries["revision"])
    assert file.read_text() == before
    done = patch("later", aliases=["soon", "sooner"], dtype=None).json()
    assert (done["waiting"], done["warnings"]) == ([], [])
    assert file.read_text() == before.replace('["soon"]', '["soon", "sooner"]')
    eventually(lambda: admin.get("/v1/models/sooner").status_code == 200)
    stale = patch("later", pinned=True)
    assert (stale.status_code, stale.json()["field"]) == (409, "revision")
    entries = admin.get(f"{ADMIN}/config/models").json()
    assert entries["revision"] == done["revision"]
    added = patch("org/new", engine="mock", model_path="none", max_batch_size=4).json()
    assert added["waiting"] == [{"key": "models.org/new", "needs": "./ew start org/new"}]
    started = admin.post(f"{ADMIN}/models/org/new/start", params={"wait": True}).json()
    states = {each["slot"]: each["state"] for each in started["outcomes"]}
    assert states == {"valkey": "ready", "org/new-0": "ready"}
    eventually(lambda: admin.get("/v1/models/org/new").status_code == 200)
    audited = admin.get(f"{ADMIN}/logs", params={"unit": "audit"}).json()["lines"]
    assert '"set_model","model":"org/new"' in audited[-2]["message"]
    assert not any('"is_trial":true' in each["message"] for each in audited)


def test_of_an_entry_that_runs_its_checkpoint_s_code_the_checkpoint_stays(
    admin_host: AdminHost, admin: httpx.Client
) -> None:
    file = admin_host.terminal.config
    before = file.read_text()
    config = json.loads(before.removeprefix("// mine\n"))
    config["models"]["always"]["trust_remote_code"] = True
    file.write_text(json.dumps(config))
    try:
        revision = admin.get(f"{ADMIN}/config/models").json()["revision"]
        body = {"revision": revision, "settings": {"model_path": "evil/code"}}
        refused = admin.patch(f"{ADMIN}/config/models/always", json=body)
        assert (refused.status_code, refused.json()["field"]) == (422, "settings.model_path")
    finally:
        file.write_text(before)


def test_what_the_supervisor_refuses_is_told_with_its_reason(admin: httpx.Client) -> None:
    for path in ("/models/always/load", "/models/nothing/unload"):
        answer = admin.post(ADMIN + path)
        assert (answer.status_code, answer.json()["code"]) == (409, "refused"), answer.text
        assert answer.json()["message"]


def test_an_open_request_is_listed_and_cancelled_for_its_client(
    admin_host: AdminHost, admin: httpx.Client
) -> None:
    ended: list[ServerSentEvent] = []

    def ask() -> None:
        body = {"modelId": "always", "prompt": "x", "maxTokens": 5000}
        with (
            admin_host.client() as client,
            client.stream("POST", "/api/v1/inference/stream", json=body) as answer,
        ):
            told = read_events(answer.iter_lines())
            # A worker that has just been replaced may be waited for.
            ended.extend(event for event in told if event.name not in ("", "status"))

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: any(each["tokens"] for each in open_requests(admin)))
    (found,) = open_requests(admin)
    assert (found["model"], found["state"], found["key_name"]) == (
        "always",
        "streaming",
        "everything",
    )
    assert found["worker"].startswith("always-0")
    assert found["first_token_ms"] > 0
    answer = admin.post(f"{ADMIN}/requests/{found['job_id']}/cancel")
    assert answer.json() == {"cancelled": True}
    asking.join(10)
    assert [(each.name, json.loads(each.data)["code"]) for each in ended] == [
        ("error", "cancelled")
    ]
    eventually(lambda: not open_requests(admin))
    last = admin.get(f"{ADMIN}/requests").json()["ended"][0]
    assert (last["job_id"], last["state"], last["error"]) == (
        found["job_id"],
        "failed",
        "cancelled",
    )
    assert admin.post(f"{ADMIN}/requests/none/cancel").status_code == 404
    life = admin.get(f"{ADMIN}/requests/{found['request_id']}/trace").json()
    assert (life["job_id"], life["key_id"]) == (found["job_id"], found["key_id"])
    whats = [each["what"] for each in life["moments"]]
    assert whats == ["accepted", "queued", "claimed", "first_token", "cancelled"]
    assert life["moments"][2]["worker"].startswith("always-0")
    assert admin.get(f"{ADMIN}/requests/none/trace").status_code == 404
    (noted,) = admin.get(f"{ADMIN}/audit", params={"text": found["job_id"]}).json()["entries"]
    assert (noted["key_name"], noted["address"]) == ("ops", "127.0.0.1")
    assert noted["change"].startswith(f"cancel job {found['job_id']} of key ")
    assert datetime.fromisoformat(noted["time"]).tzinfo


def test_the_batches_of_all_keys_are_listed_and_cancelled(
    admin_host: AdminHost, admin: httpx.Client
) -> None:
    body = {"model": "always", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5000}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    with admin_host.client() as client:
        content = {"file": ("in.jsonl", json.dumps(line).encode())}
        file = client.post("/v1/files", data={"purpose": "batch"}, files=content).json()
        wanted = {"endpoint": line["url"], "completion_window": "1h", "input_file_id": file["id"]}
        batch = client.post("/v1/batches", json=wanted).json()
    (found,) = admin.get(f"{ADMIN}/batches").json()["batches"]
    assert (found["id"], found["key_name"]) == (batch["id"], "everything")
    assert "metadata" not in found
    assert "messages" not in json.dumps(found)
    assert admin.get("/v1/batches").json()["data"] == []
    cancelled = admin.post(f"{ADMIN}/batches/{batch['id']}/cancel")
    assert cancelled.json() == {"cancelled": True}

    def status() -> str:
        return str(admin.get(f"{ADMIN}/batches").json()["batches"][0]["status"])

    eventually(lambda: status() == "cancelled")
    assert admin.post(f"{ADMIN}/batches/{batch['id']}/cancel").json() == {"cancelled": False}
    assert admin.post(f"{ADMIN}/batches/none/cancel").status_code == 404


def test_a_key_is_made_used_and_revoked(admin_host: AdminHost, admin: httpx.Client) -> None:
    made = admin.post(f"{ADMIN}/keys", json={"name": "guest", "models": ["always"]})
    assert made.status_code == 201, made.text
    with admin_host.client_of(made.json()["key"]) as guest:
        assert [each["id"] for each in guest.get("/api/v1/models").json()["models"]] == ["always"]
        listed = admin.get(f"{ADMIN}/keys").json()["keys"][0]
        assert (listed["id"], listed["name"], listed["state"]) == (
            made.json()["id"],
            "guest",
            "live",
        )
        assert made.json()["key"] not in json.dumps(listed)
        assert "sha256" not in listed
        assert admin.delete(f"{ADMIN}/keys/{listed['id']}").status_code == 204
        eventually(lambda: guest.get("/api/v1/models").status_code == 401)
    assert admin.delete(f"{ADMIN}/keys/{listed['id']}").status_code == 404
    assert admin.post(f"{ADMIN}/keys", json={"name": "x", "scope": 1}).status_code == 422
    control = admin.post(f"{ADMIN}/keys", json={"name": "\x1b[2J"})
    assert (control.status_code, control.json()["code"]) == (409, "refused")


def test_what_a_key_may_ask_is_changed_and_its_secret_is_made_anew(
    admin_host: AdminHost, admin: httpx.Client
) -> None:
    asked = {"name": "team", "models": ["always"], "owner": "Ada", "group": "lab"}
    old = admin.post(f"{ADMIN}/keys", json=asked).json()
    limits = {"requests_per_minute": 1, "tokens_per_day": "none"}
    path, change = f"{ADMIN}/keys/{old['id']}", {"note": "until May", "limits": limits}
    changed = admin.patch(path, json=change).json()
    assert (changed["owner"], changed["group"], changed["limits"]) == ("Ada", "lab", limits)
    assert changed["last_used_unix_s"] is None
    body = {"modelId": "always", "prompt": "x", "maxTokens": 1}
    with admin_host.client_of(old["key"]) as team:

        def statuses() -> set[int]:
            return {team.post("/api/v1/inference", json=body).status_code for _ in range(2)}

        eventually(lambda: 429 in statuses())
        given = {"requests_per_minute": None}
        changed = admin.patch(path, json={"limits": given, "group": ""}).json()
        assert (changed["note"], changed["group"]) == ("until May", "")
        assert changed["limits"] == {"tokens_per_day": "none"}
        assert changed["last_used_unix_s"] > changed["created_unix_s"] - 1
        eventually(lambda: statuses() == {200})
        new = admin.post(f"{path}/rotate", json={"overlap_s": 3600}).json()
        assert team.get("/api/v1/models").status_code == 200
        with admin_host.client_of(new["key"]) as rotated:
            assert len(rotated.get("/api/v1/models").json()["models"]) == 1
        listed = {each["id"]: each for each in admin.get(f"{ADMIN}/keys").json()["keys"]}
        assert listed[old["id"]]["state"] == "ending"
        assert listed[new["id"]]["note"] == "until May"
        at_once = admin.post(f"{ADMIN}/keys/{new['id']}/rotate", json={"overlap_s": 0}).json()
        with admin_host.client_of(new["key"]) as rotated:
            eventually(lambda: rotated.get("/api/v1/models").status_code == 401)
    assert admin.delete(f"{ADMIN}/keys/{at_once['id']}").status_code == 204


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"limits": {"tokens_per_hour": 1}}, 422),
        ({"limits": {"tokens_per_day": 0}}, 422),
        ({"limits": {"tokens_per_day": "no"}}, 422),
        ({"models": ["*"]}, 422),
        ({"group": "a b"}, 409),
        ({"note": "\x1b[2J"}, 409),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(
    admin_host: AdminHost, admin: httpx.Client, change: dict[str, Any], status: int
) -> None:
    path = f"{ADMIN}/keys/{admin_host.key.split('_')[1]}"
    assert admin.patch(path, json={"owner": "eve", **change}).status_code == status
    (own,) = (key for key in admin.get(f"{ADMIN}/keys").json()["keys"] if key["name"] == "ops")
    assert (own["owner"], own["limits"]) == ("", {})
    assert admin.patch(f"{ADMIN}/keys/none", json={"owner": "eve"}).status_code == 404


def test_every_change_is_in_the_audit_log_and_logs_are_followed(
    admin_host: AdminHost, admin: httpx.Client
) -> None:
    key_id = admin_host.key.split("_")[1]
    assert {"gateway", "valkey", "always-0", "audit"} <= {
        *admin.get(f"{ADMIN}/logs/units").json()["units"]
    }
    with stream_of(admin, "/logs/stream?unit=audit&lines=1") as events:
        assert len(json.loads(next(events).data)["lines"]) == 1
        with httpx.Client(base_url=admin.base_url, headers=admin.headers) as other:
            other.post(f"{ADMIN}/models/nothing/load")
        (line,) = json.loads(next(events).data)["lines"]
    assert line["unit"] == "audit"
    assert f"key {key_id} (ops) from 127.0.0.1" in line["message"]
    assert '{"type":"load","model":"nothing"}' in line["message"]
    lines = admin.get(f"{ADMIN}/logs", params={"unit": "audit"}).json()["lines"]
    text = "\n".join(each["message"] for each in lines)
    for change in ("load", "unload", "pin", "restart_models", "add_key", "revoke key", "cancel"):
        assert change in text, change
    for change in ("change_key", "rotate_key"):
        assert change in text, change
    assert log_path("audit").stat().st_mode & 0o077 == 0


def test_nothing_changes_that_cannot_be_noted(admin: httpx.Client) -> None:
    log = log_path("audit")
    log.rename(aside := log.with_suffix(".aside"))
    log.mkdir()
    try:
        answer = admin.post(f"{ADMIN}/models/later/load", params={"wait": True})
        assert (answer.status_code, answer.json()["code"]) == (503, "audit_failed")
        assert state_of(admin, "later") == "stopped"
    finally:
        log.rmdir()
        aside.rename(log)


def _most_used(admin: httpx.Client, gpu: str) -> int:
    """Return the most MiB of the last hour."""
    used = admin.get(f"{ADMIN}/history").json()["gpus"][gpu]["used_mib"]
    return max(filter(None, used), default=0)


def test_the_last_hour_is_told_in_columns(admin: httpx.Client) -> None:
    eventually(lambda: len(admin.get(f"{ADMIN}/history").json()["at_unix_s"]) >= 2, 30)
    history = admin.get(f"{ADMIN}/history").json()
    moments = len(history["at_unix_s"])
    assert history["gpus"].keys() == {"GPU-a", "GPU-b"}
    assert history["models"].keys() >= {"always", "later"}
    columns = [*history["gpus"].values(), *history["models"].values()]
    assert all(len(each) == moments for column in columns for each in column.values())
    eventually(lambda: _most_used(admin, "GPU-a") >= 1600, 30)


def test_streams_end_with_the_process_and_with_the_key(
    admin_host: AdminHost, admin: httpx.Client
) -> None:
    made = admin.post(f"{ADMIN}/keys", json={"name": "short", "admin": True}).json()
    with (
        admin_host.client_of(made["key"]) as operator,
        stream_of(operator, "/status/stream") as of_a_key,
        stream_of(admin, "/status/stream") as of_a_process,
    ):
        assert next(of_a_key).name == next(of_a_process).name == "status"
        with httpx.Client(base_url=admin.base_url, headers=admin.headers) as other:
            other.delete(f"{ADMIN}/keys/{made['id']}")
        list(of_a_key)
        assert next(of_a_process).name == "change"
        with httpx.Client(base_url=admin.base_url, headers=admin.headers) as other:
            assert other.post(f"{ADMIN}/gateway/restart").status_code == 202
        list(of_a_process)
    eventually(lambda: httpx.get(f"{admin_host.url}/health/live").status_code == 200)


def test_while_the_supervisor_is_away_that_is_said(
    admin_host: AdminHost, admin: httpx.Client
) -> None:
    pid = admin_host.supervisor_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not admin.get(f"{ADMIN}/status").json()["supervisor"]["alive"])
    answer = admin.post(f"{ADMIN}/models/later/load")
    assert (answer.status_code, answer.json()["code"]) == (503, "supervisor_away")
    assert answer.headers["retry-after"] == "2"
    admin_host.supervise()
    eventually(lambda: admin.post(f"{ADMIN}/models/later/load").status_code in (200, 202))
    eventually(lambda: state_of(admin, "later") == "ready")
