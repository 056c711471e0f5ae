"""The metrics of a gateway: their names, what they count, and the page that lists them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from contract.bus.heartbeats import HOSTS, Heartbeats
from contract.config import ModelConfig
from contract.gateway_beat import GatewayBeat
from contract.host_beat import HostBeat, Residency
from contract.messages import Done, Heartbeat, State
from gateway.jobs.availability import ModelAvailability
from gateway.server.metrics.exposition import MetricSources, exposition, text_of
from gateway.server.metrics.reference import MARK, reference
from gateway.server.metrics.vllm_names import vllm_families
from gateway.streams.metrics import MOST_KEYS, OTHER, Metrics
from tests.gateway.conftest import Gateway
from tests.gateway.lifecycle.test_process import metrics_when
from tests.gateway.scripted_worker import ScriptedWorker

INFER = "/api/v1/inference"
PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def values(text: str) -> dict[tuple[str, str], float]:
    """By sample and labels, as they are written."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    parts = [line.rsplit(" ", 1) for line in lines]
    return {tuple(name.partition("{")[::2]): float(value) for name, value in parts}  # type: ignore[misc]


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def sources() -> MetricSources:
    """Something of everything."""
    metrics = Metrics()
    metrics.count_request("/x", 200, "m", "k1")
    metrics.count_failure("m", "lost")
    metrics.count_answer("m", "k1", Done(("stop",), 10, 20, 4), 1.5)
    metrics.of("m").first_token_s.observe(0.2)
    beat = GatewayBeat("g", "h", 1, figures=metrics.figures())
    worker = Heartbeat(
        "m-0",
        "m",
        "vllm",
        "h",
        1,
        State.READY,
        running=7,
        engine_waiting=2,
        kv_cache_usage=0.25,
        preemptions_total=3,
        adapters_in_use=("sql",),
    )
    host = HostBeat(
        "h",
        residency={"m": Residency(2, 1, 30.0, {"eviction": 1}, {"idle": 2})},
        restarts={"m-0": 4},
        hung={"m": 1},
    )
    return MetricSources(
        [beat], {"m": ModelAvailability(State.READY, (worker,), 5)}, (host,), redis_is_up=True
    )


def test_the_page_lists_what_there_is() -> None:
    """`python -m gateway.server.metrics.reference` makes the part behind the mark."""
    assert PAGE.read_text().partition(MARK)[1:] == (MARK, reference().removeprefix(MARK))


async def test_a_gateway_shows_no_metric_that_the_page_lacks(client: httpx.AsyncClient) -> None:
    listed = set(PAGE.read_text().split("`"))
    for path in ("/metrics", "/metrics/vllm"):
        text = (await client.get(path)).text
        shown = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
        assert shown
        assert shown <= listed


def test_names_and_units_are_as_prometheus_wants_them() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    command = [promtool, "check", "metrics"]
    found = subprocess.run(
        command, input=exposition(sources()), capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_units_without_promtool() -> None:
    for family in families(exposition(sources())).values():
        assert family.name.startswith("ew_")
        assert not family.name.endswith(("_ms", "_mib", "_percent")), family.name
        assert family.documentation


async def test_an_answer_is_counted_with_its_lengths_and_its_reason(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, gateway: Gateway
) -> None:
    asking = asyncio.create_task(client.post(INFER, json={"modelId": model, "prompt": "x"}))
    attempt = await worker.start()
    await worker.delta(attempt, "a", "b")
    await worker.done(attempt, "length")
    prompt_tokens = (await asking).json()["usage"]["promptTokens"]
    labels = f'model="{model}",process="0"'
    text = await metrics_when(client, f"ew_e2e_request_latency_seconds_count{{{labels}}} 1.0")
    found = values(text)
    counted = f'finished_reason="length",{labels}}}'
    assert found["ew_request_success_total", counted] == 1
    assert found["ew_request_prompt_tokens_sum", f"{labels}}}"] == prompt_tokens
    assert found["ew_request_generation_tokens_sum", f"{labels}}}"] == 2
    assert found["ew_prompt_tokens_total", f"{labels}}}"] == prompt_tokens
    key = f'key_id="{gateway.key.record.id}",process="0"}}'
    assert found["ew_key_requests_total", key] >= 1
    assert found["ew_key_generation_tokens_total", key] >= 2
    assert next(each for each in found if each[0] == "ew_build_info")
    by_vllm = values((await client.get("/metrics/vllm")).text)
    labels = f'model_name="{model}",process="0"'
    assert by_vllm["vllm:e2e_request_latency_seconds_count", f"{labels}}}"] == 1


async def test_an_answer_that_fails_counts_as_a_failure_alone(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(client.post(INFER, json={"modelId": model, "prompt": "x"}))
    await worker.fail(await worker.start(), retryable=False)
    await asking
    labels = f'model="{model}",process="0"'
    pattern = f'ew_failures_total{{code="engine_failed",{labels}}} 1.0'
    text = await metrics_when(client, pattern)
    assert values(text)["ew_e2e_request_latency_seconds_count", f"{labels}}}"] == 0
    assert f"ew_request_success_total{{{labels}" not in text


async def test_hosts_tell_how_models_came_and_went(client: httpx.AsyncClient, db: Redis) -> None:
    hosts = Heartbeats(db, HOSTS)
    await hosts.beat("h", sources().hosts[0], ready=True)
    try:
        text = await metrics_when(client, 'ew_model_loads_total{host="h",kind="load",model="m"} 2')
    finally:
        await hosts.leave("h")
    found = values(text)
    assert found["ew_model_loads_total", 'host="h",kind="wake",model="m"}'] == 1
    assert found["ew_model_unloads_total", 'host="h",model="m",reason="eviction"}'] == 1
    assert found["ew_model_sleeps_total", 'host="h",model="m",reason="idle"}'] == 2
    assert found["ew_unit_restarts_total", 'host="h",unit="m-0"}'] == 4


def test_a_gateway_without_the_keys_of_all_hosts_shows_it() -> None:
    beats = [GatewayBeat("a", "h", 1), GatewayBeat("b", "h", 2, index=1, keys_problem="none")]
    text = exposition(MetricSources(beats, {}, (), True))
    assert 'ew_gateway_keys_ok{process="0"} 1.0' in text
    assert 'ew_gateway_keys_ok{process="1"} 0.0' in text


def test_keys_beyond_the_bound_are_one() -> None:
    metrics = Metrics()
    for number in range(MOST_KEYS + 5):
        metrics.count_request("/x", 200, "m", f"k{number}")
    metrics.count_request("/x", 200, "m", "k0")
    keys = metrics.figures().keys
    assert len(keys) == MOST_KEYS + 1
    assert (keys[OTHER].requests, keys["k0"].requests) == (5, 2)


def test_vllm_names_are_of_any_engine() -> None:
    """As an endpoint picker reads them: jobs that wait, run, and the KV cache."""
    model = ModelConfig(engine="mock", model_path="none", adapters={"sql": "a", "de": "b"})
    text = text_of(vllm_families(sources(), {"m": model}))
    found = values(text)
    labels = 'engine="0",model_name="m"}'
    assert found["vllm:num_requests_waiting", labels] == 5 + 2
    assert found["vllm:num_requests_running", labels] == 7 - 2
    assert found["vllm:kv_cache_usage_perc", labels] == 0.25
    assert found["vllm:num_preemptions_total", 'engine="m-0",model_name="m"}'] == 3
    (lora,) = families(text)["vllm:lora_requests_info"].samples
    assert lora.labels["max_lora"] == "2"
    assert (lora.labels["running_lora_adapters"], lora.labels["waiting_lora_adapters"]) == (
        "sql",
        "",
    )
    assert lora.value > 1_700_000_000


async def test_they_need_the_same_key(gateway: Gateway) -> None:
    for path in ("/metrics", "/metrics/vllm"):
        assert (await asyncio.to_thread(httpx.get, gateway.url + path)).status_code == 401
