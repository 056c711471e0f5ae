"""Bodies that are as large as they may be, and as wrong as they can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from pydantic_core import from_json

from gateway.api.fields import GenerationBody, parse
from gateway.api.native.schemas import InferenceRequest
from gateway.api.openai.chat_request import ChatCompletionRequest
from gateway.http.errors import ApiError
from tests.gateway.conftest import Gateway

_BYTES = 1_000_000


def _filled(before: str, item: str, after: str) -> bytes:
    count = (_BYTES - len(before)) // (len(item) + 1)
    return f"{before}{','.join([item] * count)}{after}".encode()


def _chat(field: str, item: str) -> bytes:
    message = '{"role":"user","content":"x"}'
    return _filled(f'{{"model":"m","messages":[{message}],"{field}":[', item, "]}")


def _many_keys(before: str, after: str) -> bytes:
    keys = ",".join(f'"a{i}":1' for i in range(90_000))
    return f"{before}{keys}{after}".encode()


CHAT: dict[str, bytes] = {
    "messages[0].role": _filled('{"model":"m","messages":[', "{}", "]}"),
    "messages[0]": _filled('{"model":"m","messages":[', "1", "]}"),
    "stop[0]": _chat("stop", '""'),
    "modalities[0]": _chat("modalities", '""'),
    "guided_choice[0]": _chat("guided_choice", '""'),
}
NATIVE: dict[str, bytes] = {
    "messages[0].role": _filled('{"modelId":"m","messages":[', "{}", "]}"),
    "stop[0]": _filled('{"modelId":"m","prompt":"x","stop":[', "1", "]}"),
    "choices[0]": _filled('{"modelId":"m","prompt":"x","choices":[', "1", "]}"),
    "a0": _many_keys('{"modelId":"m",', "}"),
}


_BODIES = [
    *((ChatCompletionRequest, field, body) for field, body in CHAT.items()),
    *((InferenceRequest, field, body) for field, body in NATIVE.items()),
]


@pytest.mark.parametrize(("form", "field", "body"), _BODIES, ids=lambda given: str(given)[:20])
def test_not_every_fault_of_a_body_is_looked_for(
    form: type[GenerationBody], field: str, body: bytes
) -> None:
    with pytest.raises(ApiError) as refused:
        parse(form, body)
    assert refused.value.field == field
    with pytest.raises(ValidationError) as found:
        form.model_validate(from_json(body))
    assert found.value.error_count() < 10


_UNKNOWN = {
    "": _many_keys('{"model":"no","messages":[{"role":"user","content":"x"}],', "}"),
    "messages[].": _many_keys('{"model":"no","messages":[{"role":"user","content":"x",', "}]}"),
}


@pytest.mark.parametrize("place", _UNKNOWN)
def test_of_many_fields_without_effect_some_are_named(place: str) -> None:
    ignored: set[str] = set()
    parse(ChatCompletionRequest, _UNKNOWN[place], ignored)
    assert len(ignored) == 20
    assert all(name.startswith(f"{place}a") for name in ignored)


def test_hostile_bodies_cost_no_memory(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url)
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status")
    headers = {"X-API-Key": gateway.key.text}
    before = _peak_kib(status)
    for body in CHAT.values():
        response = httpx.post(f"{gateway.url}/v1/chat/completions", content=body, headers=headers)
        assert response.status_code == 400
    for body in _UNKNOWN.values():
        # There is no model of that name.
        response = httpx.post(f"{gateway.url}/v1/chat/completions", content=body, headers=headers)
        assert response.status_code == 404
    assert _peak_kib(status) - before < 100 * 1024


def _peak_kib(status: Path) -> int:
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])
