"""The addresses that one ew has claimed are no other's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from contract.paths import ROOT
from contract.process.ports import free_port
from orchestrator.errors import UserError
from orchestrator.system.ports import PortClaims

CLAIM = """
import sys
from orchestrator.system.ports import PortClaims
claims = PortClaims()
claims.take(sys.argv[1], int(sys.argv[2]))
print("taken", flush=True)
sys.stdin.read()
"""


def claimant(host: str, port: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM, host, str(port)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "taken\n"
    return process


def test_a_claim_lasts_as_long_as_the_process_that_made_it() -> None:
    port = free_port()
    with claimant("127.0.0.1", port) as other:
        claims = PortClaims()
        with pytest.raises(UserError, match=f"port {port} is in use by another ew") as refused:
            claims.take("localhost", port)
        assert "--port" in refused.value.hint
        claims.take("127.0.0.2", port)
        other.kill()
        other.wait()
        claims.take("127.0.0.1", port)
        # Its own, again: a gateway that is started anew.
        claims.take("127.0.0.1", port)
        claims.close()


def test_a_host_that_nobody_knows_is_named() -> None:
    with pytest.raises(UserError, match=r"cannot listen on no\.such\.invalid port 8080"):
        PortClaims().take("no.such.invalid", 8080)
