"""The servers that commands measure: this ew, and others of OpenAI's API."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import msgspec

from orchestrator.benchmark.load_test import ServerUnderTest
from orchestrator.benchmark.sender_task import Endpoint
from orchestrator.client.gateway_access import running_gateway
from orchestrator.client.own_key import own_key

#: Of other servers than this ew, as OpenAI's clients have it.
_OTHER_KEY: Final = "OPENAI_API_KEY"


def own_servers(models: Sequence[str], command: str, stack: ExitStack) -> list[ServerUnderTest]:
    """Return this ew for each of the models, with a key for as long as `stack` is open. Raises
    `UserError`."""
    gateway = running_gateway()
    endpoint = Endpoint.of(f"{gateway.url}/v1", stack.enter_context(own_key(models, command)))
    endpoint = msgspec.structs.replace(endpoint, certificate=gateway.certificate)
    return [ServerUnderTest("ew", endpoint, model) for model in models]


def other_server(name: str, url: str, model: str) -> ServerUnderTest:
    """Return another server. Raises `UserError`."""
    return ServerUnderTest(name, Endpoint.of(url, os.environ.get(_OTHER_KEY, "")), model)
