"""A free port is free, and stays so."""

from __future__ import annotations

import random
import socket

import pytest

from contract.process.ports import free_port, is_loopback
from gateway.__main__ import bound_socket


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_it_can_be_listened_on_and_is_none_of_the_kernels(host: str) -> None:
    port = free_port(host)
    assert port < 32_768
    with socket.create_server((host, port)):
        assert free_port(host) != port


def test_one_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1], free]
        monkeypatch.setattr(random, "sample", lambda *_: ports)
        assert free_port() == free
        ports.pop()
        assert free_port() not in (free, *ports)


def test_one_that_a_gateway_is_about_to_listen_on_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = free_port()
    with bound_socket("127.0.0.1", 0) as taken:
        ports = [taken.getsockname()[1], free]
        monkeypatch.setattr(random, "sample", lambda *_: ports)
        assert free_port() == free


def test_a_host_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(OSError):
        free_port("203.0.113.1")


@pytest.mark.parametrize(
    ("host", "is_ours_alone"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("10.0.0.1", False),
        ("gateway.example.com", False),
    ],
)
def test_loopback_is_told_from_the_rest(host: str, is_ours_alone: bool) -> None:
    assert is_loopback(host) is is_ours_alone
