"""The dashboard and the alert rules of deploy/monitoring: they name metrics that exist, promtool
takes them, and a real Prometheus that scrapes a real ew answers all of their queries."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.process.ports import free_port
from gateway.server.metrics.reference import reference
from tests.orchestrator.conftest import Host
from tests.orchestrator.gpu_host import GpuHost
from tests.waiting import eventually

MONITORING = Path(__file__).parents[4] / "deploy" / "monitoring"
RULES = MONITORING / "alerts.yml"
_VARIABLES = {"$instance": ".*", "$model": ".*", "$host": ".*", "$__rate_interval": "1m"}
#: Queries that have no data where nothing fails, and engines say nothing of a cache.
_SILENT = re.compile(
    "failures|preemptions|kv_cache|prefix_cache|unloads|sleeps|restarts|hung|success|foreign|loads"
)
_GENERATES = 'rate(ew_generation_tokens_total{model="a"}[1m]) > 0'


def queries() -> list[str]:
    """Those of the dashboard's panels."""
    panels = json.loads((MONITORING / "grafana-dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def installed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian: prometheus)")
    return found


def promtool(*arguments: str, cwd: Path = MONITORING) -> None:
    command = [installed("promtool"), *arguments]
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("file", ["grafana-dashboard.json", "alerts.yml"])
def test_every_metric_that_is_named_exists(file: str) -> None:
    there = set(re.findall(r"^\| `(\S+)` \|", reference(), re.MULTILINE))
    named = set(re.findall(r"\bew_[a-z0-9_]+", (MONITORING / file).read_text()))
    assert len(named) > 10
    assert {re.sub("_bucket$", "", name) for name in named} <= there


def test_promtool_takes_the_rules() -> None:
    promtool("check", "rules", RULES.name)


#: By alert: the series that let it fire, and when.
FIRING: dict[str, tuple[dict[str, str], str]] = {
    "EwGatewayDown": ({'up{job="ew"}': "0x20"}, "2m"),
    "EwRedisDown": ({"ew_redis_up": "0x20"}, "2m"),
    "EwKeysNotShared": ({'ew_gateway_keys_ok{process="0"}': "0x20"}, "3m"),
    "EwModelNotReady": (
        {'ew_model_ready{model="m"}': "0x20", 'ew_num_requests_waiting{model="m"}': "1x20"},
        "6m",
    ),
    "EwQueueGrows": ({'ew_num_requests_waiting{model="m"}': "60x20"}, "11m"),
    "EwSlowFirstToken": (
        {
            'ew_time_to_first_token_seconds_bucket{le="10",model="m"}': "0+90x30",
            'ew_time_to_first_token_seconds_bucket{le="30",model="m"}': "0+100x30",
            'ew_time_to_first_token_seconds_bucket{le="+Inf",model="m"}': "0+100x30",
        },
        "25m",
    ),
    "EwAnswersFail": (
        {
            'ew_failures_total{model="m",code="engine_lost"}': "0+10x30",
            'ew_requests_total{model="m",route="/x",status="200"}': "0+100x30",
        },
        "20m",
    ),
    "EwSpansDropped": (
        {'ew_spans_dropped_total{instance="g:8080",process="0",reason="full"}': "0+10x30"},
        "20m",
    ),
    "EwUnitRestarts": ({'ew_unit_restarts_total{unit="m-0",host="h"}': "0+1x20"}, "10m"),
    "EwEngineHung": ({'ew_engine_hung_total{model="m",host="h"}': "0 1x20"}, "10m"),
    "EwKvCacheFull": ({'ew_worker_kv_cache_usage_ratio{worker="m-0"}': "0.97x20"}, "11m"),
    "EwModelsThrash": (
        {'ew_model_unloads_total{model="m",host="h",reason="eviction"}': "0+1x60"},
        "60m",
    ),
    "EwGpuMemoryForeign": (
        {
            'ew_gpu_memory_foreign_bytes{gpu="0",host="h"}': "20x30",
            'ew_gpu_memory_bytes{gpu="0",host="h"}': "100x30",
        },
        "20m",
    ),
}


def test_each_alert_fires_at_its_fault_and_not_without(tmp_path: Path) -> None:
    """With series as they are at the fault, and a minute after the start."""
    assert set(FIRING) == set(re.findall(r"alert: (\w+)", RULES.read_text()))
    tests = []
    for alert, (series, at) in FIRING.items():
        inputs = [{"series": name, "values": values} for name, values in series.items()]
        tests.append(
            {
                "interval": "1m",
                "input_series": inputs,
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                        "eval_time": at,
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    },
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                        "eval_time": "0m",
                        "exp_samples": [],
                    },
                ],
            }
        )
    cases = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "cases.yml").write_text(json.dumps(cases))
    promtool("test", "rules", "cases.yml", cwd=tmp_path)


@contextmanager
def prometheus(directory: Path, target: str, key: str) -> Iterator[str]:
    """Run a Prometheus that scrapes a gateway every second, with the rules. Yields its address."""
    (directory / "ew.key").write_text(key)
    scraped = {
        "job_name": "ew",
        "basic_auth": {"username": "any", "password_file": "ew.key"},
        "static_configs": [{"targets": [target]}],
    }
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [scraped],
    }
    (directory / "prometheus.yml").write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        installed("prometheus"),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address={address}",
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stderr=log, stdout=log)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def gpus(host: Host) -> Iterator[GpuHost]:
    """`host` cleans up."""
    installed("prometheus")
    made = GpuHost(host.directory)
    yield made
    made.end()


@pytest.mark.slow
def test_a_real_prometheus_answers_every_query(gpus: GpuHost, tmp_path: Path) -> None:
    """It scrapes a supervisor, a gateway and workers with a scripted GPU."""
    gpus.configure(a={"mib": 1000}, b={"mib": 1000, "load": "on-demand"})
    assert gpus.start().code == 0
    gateway = gpus.run("status", "--json")
    url = json.loads(gateway.out)["gateway"]["url"]
    with prometheus(tmp_path, url.removeprefix("http://"), gpus.api_key) as server:
        eventually(lambda: _answers(server))
        eventually(lambda: bool(_result(server, "up == 1")))
        gpus.ask("b")
        eventually(lambda: bool(_result(server, 'ew_model_loads_total{model="b"} > 0')))
        eventually(lambda: gpus.ask("a") and _result(server, _GENERATES))
        empty = [query for query in queries() if not _result(server, _filled(query))]
        assert [query for query in empty if not _SILENT.search(query)] == []
        rules = httpx.get(f"{server}/api/v1/rules").json()["data"]["groups"][0]["rules"]
        eventually(lambda: {each["health"] for each in _rules(server)} == {"ok"})
        assert len(rules) == len(FIRING)
        assert [each["name"] for each in _rules(server) if each["state"] == "firing"] == []


def _rules(server: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{server}/api/v1/rules").json()["data"]["groups"][0][
        "rules"
    ]
    return found


def _answers(server: str) -> bool:
    try:
        return httpx.get(f"{server}/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def _filled(query: str) -> str:
    for name, value in _VARIABLES.items():
        query = query.replace(name, value)
    return query


def _result(server: str, query: str) -> list[Any]:
    """Return what a query yields. Fails if Prometheus does not take it."""
    answer = httpx.get(f"{server}/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", (query, answer)
    result: list[Any] = answer["data"]["result"]
    return result
