"""The command beside a gateway that speaks TLS."""

from __future__ import annotations

import json
from pathlib import Path

from tests.certificates import Authority, section
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal


def test_commands_speak_tls_with_their_own_gateway(
    host: Host, terminal: Terminal, tmp_path: Path
) -> None:
    # The name in the certificate is not the address at which commands reach the gateway.
    files = Authority(tmp_path).issue("server", "llm.example.com", to_day=5)
    terminal.configure(demo={})
    config = json.loads(terminal.config.read_text())
    config["gateway"]["tls"] = section(files)
    terminal.config.write_text(json.dumps(config))

    start = terminal.run("start")
    assert start.code == 0, start
    assert "ew serves at https://127.0.0.1:" in start.err
    assert f"{files.certificate} expires in 5 days; have it renewed" in start.err

    gateway = json.loads(terminal.run("status", "--json").out)["gateway"]
    assert gateway["certificate"] == str(files.certificate)
    assert gateway["stage"] == f"{files.certificate} expires in 5 days"

    chat = terminal.run("chat", "demo", "--max-tokens", "3", stdin="hi\n")
    assert (chat.code, chat.out) == (0, "0 1 2 \n"), chat
    bench = terminal.run("bench", "demo", "--streams", "1", "--seconds", "1", "--warm-up", "0")
    assert bench.code == 0, bench
