"""The collector of traces, as `./ew doctor` finds it."""

from __future__ import annotations

from contract.process.ports import free_port
from orchestrator.doctor import collector
from tests.standins.otlp_collector import collecting


def test_a_collector_is_asked_whether_it_takes_spans() -> None:
    with collecting() as started:
        assert collector.ask(f"{started.url}/").seen == f"{started.url}/v1/traces takes spans"
        started.statuses = [404]
        refused = collector.ask(started.url)
    assert refused.seen.endswith("takes no spans (HTTP 404)")
    assert "port 4318" in refused.fix
    gone = collector.ask(f"http://127.0.0.1:{free_port()}")
    assert "does not answer" in gone.seen
    assert not gone.is_fatal
