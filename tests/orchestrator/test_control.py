"""What the supervisor's socket makes of those who talk to it."""

from __future__ import annotations

import json
import socket

from orchestrator.control import socket_path
from tests.orchestrator.conftest import Host


def say(line: bytes) -> dict[str, str]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(socket_path()))
        client.sendall(line)
        answer: dict[str, str] = json.loads(client.makefile().readline())
        return answer


def test_nonsense_is_refused_and_hurts_nobody(host: Host, model: str) -> None:
    host.start(host.worker(model))
    for line in (b"\n", b"hello\n", b'{"type": "explode"}\n', b'{"type": "start"}\n', b"\xff\n"):
        answer = say(line)
        assert answer["type"] == "refused"
        assert answer["message"].startswith("the supervisor does not understand")
    assert host.start(host.worker(model))[1].note == "runs already"


def test_one_who_hangs_up_without_a_word_hurts_nobody(host: Host, model: str) -> None:
    host.start(host.worker(model))
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(socket_path()))
    assert host.start(host.worker(model))[1].note == "runs already"
