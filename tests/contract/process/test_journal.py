"""Lines for systemd's journal: what arrives at its socket, which is the test's own here."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.process import journal
from contract.process.journal import Journal
from contract.process.logs import configure_logging


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket in the place of the journal's."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(path)
        made.settimeout(5)
        monkeypatch.setattr(Journal.__init__, "__defaults__", (path,))
        yield made


def test_a_log_line_has_its_priority_and_its_writer(
    receiver: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("m-0", to_journal=True)
    try:
        logging.getLogger("some.module").warning("one\ntwo ew_abcdefgh_secret")
    finally:
        logging.getLogger().handlers[1].close()
        configure_logging("m-0")
    fields = dict(line.split(b"=", 1) for line in receiver.recv(65536).splitlines())
    assert fields == {
        b"MESSAGE": rb"one\ntwo ew_abcdefgh_...",
        b"PRIORITY": b"4",
        b"SYSLOG_IDENTIFIER": b"ew-m-0",
        b"EW_LOGGER": b"some.module",
    }
    assert "WARNING m-0 some.module: one" in capsys.readouterr().err


def test_a_value_of_several_lines_goes_with_its_length(receiver: socket.socket) -> None:
    sender = Journal("x")
    sender.send("INFO", "a\nb", {"status": 200})
    sender.close()
    assert receiver.recv(65536) == (
        b"MESSAGE\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\n"
        b"PRIORITY=6\nSYSLOG_IDENTIFIER=x\nEW_STATUS=200\n"
    )


def test_without_a_journal_nothing_fails(tmp_path: Path) -> None:
    sender = Journal("x", str(tmp_path / "nothing"))
    sender.send("INFO", "x" * 1_000_000)
    sender.close()
    assert not journal.SOCKET.startswith(str(tmp_path))
