"""Connections are refused with their reason before the process has no file left."""

from __future__ import annotations

import resource

import pytest

from gateway.server.open_files import most_connections


@pytest.mark.parametrize(
    ("limit", "most"),
    [(128, 64), (1024, 896), (4096, 3584), (65_536, 8192), (resource.RLIM_INFINITY, 8192)],
)
def test_there_are_no_more_connections_than_files(
    limit: int, most: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert most_connections(8192) == most
    assert ("`LimitNOFILE`" in caplog.text) == (most < 8192)
