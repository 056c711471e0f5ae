"""Workers with TensorRT-LLM, as far as it differs from other engines: releases and what they
serve, limits, memory, beam search, and how it fails. The library is a stand-in (tests/standins);
the worker, its adapter and Valkey are the real ones."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from contract.bus.heartbeats import Heartbeats
from contract.config import ModelConfig, WorkerSpec
from contract.endings import CANNOT_SERVE, REASON
from contract.messages import Heartbeat
from tests.engines.contract.engines import MODEL_DIR, vllm_python, write_adapter
from tests.engines.contract.harness import Client, WorkerProcess, run_apart
from tests.standins import trtllm

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(180)]
RELEASE = "1.2.1"
START_S = 90.0
CONTEXT = 640
QUESTION = "Count to fifty."


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A model with a plan for beams, built once."""
    directory = tmp_path_factory.mktemp("plan")
    return trtllm.trt_model(
        vllm_python(), RELEASE, MODEL_DIR, directory, flags=("--max-beam-width=3",)
    )


class Workers:
    """Starts workers; they end with the test."""

    def __init__(self, redis_url: str, directory: Path) -> None:
        self.model_id = f"m-{uuid.uuid4().hex[:8]}"
        self._redis_url = redis_url
        self._directory = directory
        self._workers: list[WorkerProcess] = []

    def start(
        self,
        model: dict[str, Any],
        release: str = RELEASE,
        variables: dict[str, str] | None = None,
        **spec: Any,
    ) -> WorkerProcess:
        worker_spec = WorkerSpec(
            name=f"{self.model_id}-{len(self._workers)}",
            model_id=self.model_id,
            model=ModelConfig(**model),
            engine="cuda-trt",
            env="-",
            redis_url=self._redis_url,
            drain_s=0.5,
            **spec,
        )
        environment = trtllm.environment(release, **(variables or {}))
        log = self._directory / f"{worker_spec.name}.log"
        worker = WorkerProcess(worker_spec, vllm_python(), environment, log)
        self._workers.append(worker)
        return worker

    async def ready(self, *arguments: Any, **options: Any) -> WorkerProcess:
        worker = self.start(*arguments, **options)
        await worker.wait_until_ready(START_S)
        return worker

    async def refusal(self, *arguments: Any, code: int = CANNOT_SERVE, **options: Any) -> str:
        """Return what a worker says that does not start. TensorRT-LLM's cause is far from the
        end."""
        worker = self.start(*arguments, **options)
        assert await worker.exit_code(START_S) == code
        return worker.log.read_text(errors="replace")

    def end(self) -> None:
        for worker in self._workers:
            worker.kill()


@pytest.fixture
def workers(redis_url: str, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(redis_url, tmp_path)
    yield workers
    workers.end()


@pytest.fixture
async def client(redis_url: str, workers: Workers) -> AsyncIterator[Client]:
    client = Client(redis_url, workers.model_id, CONTEXT)
    await client.open()
    yield client
    await client.close()


async def heartbeat(db: Redis, model_id: str, until: Callable[[Heartbeat], bool]) -> Heartbeat:
    async with asyncio.timeout(20):
        while True:
            for beat in await Heartbeats(db, model_id).alive():
                found = msgspec.msgpack.decode(beat, type=Heartbeat)
                if until(found):
                    return found
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("release", trtllm.CHECKPOINT_RELEASES)
async def test_a_plan_is_refused_by_a_release_without_the_plan_engine(
    workers: Workers, plan: dict[str, Any], release: str
) -> None:
    words = await workers.refusal(plan, release)
    assert f"TensorRT-LLM {release} cannot run plans any more" in words
    assert f"set `model_path` to {MODEL_DIR}" in words
    assert "./ew setup --engine cuda-trt --version 1.2.1" in words


async def test_a_checkpoint_is_refused_by_a_release_that_serves_plans_only(
    workers: Workers,
) -> None:
    words = await workers.refusal({"engine": "cuda-trt", "model_path": str(MODEL_DIR)}, "0.21.0")
    assert f"./ew convert-trt --model {MODEL_DIR}" in words


async def test_more_than_the_plan_was_built_for_is_refused(
    workers: Workers, plan: dict[str, Any]
) -> None:
    words = await workers.refusal({**plan, "max_batch_size": 65})
    assert "was built for max_batch_size 64, not 65" in words


async def test_adapters_need_a_plan_that_was_built_for_them(
    workers: Workers, plan: dict[str, Any], tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    words = await workers.refusal({**plan, "adapters": {"other": str(adapter)}})
    assert f"build it anew with --lora {adapter}" in words


async def test_an_unknown_engine_argument_is_the_librarys_own_error(
    workers: Workers, plan: dict[str, Any]
) -> None:
    words = await workers.refusal({**plan, "engine_args": {"max_tokens_in_paged_kv_cache": 1}})
    said = f"{REASON}`engine_args`: _TrtLLM got invalid argument: max_tokens_in_paged_kv_cache"
    # The library's own words may come after ours.
    assert any(line.endswith(said) for line in words.splitlines())


async def test_a_plan_for_another_gpu_says_so_in_the_log(
    workers: Workers, plan: dict[str, Any]
) -> None:
    words = await workers.refusal(plan, code=1, variables={"PYNVML_STANDIN_CAPABILITY": "8.0"})
    assert "generated on an incompatible device" in words


async def test_the_planned_memory_becomes_tokens_of_kv_cache(
    workers: Workers, client: Client, plan: dict[str, Any]
) -> None:
    worker = await workers.ready(plan, kv_cache_tokens=5000)
    log = worker.log.read_text()
    assert "max_tokens=5000" in log
    assert (await client.ask(QUESTION, max_tokens=3)).done.completion_tokens == 3


async def test_memory_for_less_than_one_sequence_is_refused(
    workers: Workers, plan: dict[str, Any]
) -> None:
    words = await workers.refusal(plan, code=1, kv_cache_tokens=100)
    assert "one sequence may have 640" in words


async def test_beam_search_answers_come_in_pieces_and_are_told_to(
    workers: Workers, client: Client, plan: dict[str, Any]
) -> None:
    model = {**plan, "engine_args": {"beam_width": 3}}
    await workers.ready(model)
    beat = await heartbeat(client.db, workers.model_id, lambda beat: bool(beat.version))
    assert beat.pseudo_streaming
    answer = await client.ask(QUESTION, n=2, max_tokens=20)
    assert answer.done.pseudo_streamed
    assert len([delta for delta in answer.deltas if delta.index == 0]) > 1
    assert answer.choice(0) != answer.choice(1)
    assert len(answer.done.finish_reasons) == 2
    too_many = await client.ask(QUESTION, n=4, max_tokens=5)
    assert too_many.failed.code == "invalid_request"


async def test_a_wider_beam_than_the_plan_has_is_an_invalid_request(
    workers: Workers, client: Client, plan: dict[str, Any]
) -> None:
    await workers.ready({**plan, "engine_args": {"beam_width": 4}})
    answer = await client.ask(QUESTION, max_tokens=5)
    assert answer.failed.code == "invalid_request"
    assert "max_beam_width (3)" in answer.failed.message


@pytest.fixture(scope="module")
def serving(
    plan: dict[str, Any], redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    """A worker for several tests."""
    serving = Workers(redis_url, tmp_path_factory.mktemp("serving"))
    run_apart(serving.ready(plan))
    yield serving
    serving.end()


@pytest.fixture
async def asking(redis_url: str, serving: Workers) -> AsyncIterator[Client]:
    client = Client(redis_url, serving.model_id, CONTEXT)
    await client.open()
    yield client
    await client.close()


async def test_a_request_that_fails_fails_alone(asking: Client) -> None:
    bystander = await asking.put(QUESTION, max_tokens=40)
    answer = await asking.ask(f"{QUESTION} [[fail_at=3]]", max_tokens=40, ignore_eos=True)
    assert answer.failed.code == "engine_failed"
    assert (await bystander.ended()).done.completion_tokens == 40


async def test_log_probabilities_need_an_engine_that_keeps_its_logits(asking: Client) -> None:
    answer = await asking.ask(QUESTION, logprobs=1, max_tokens=3)
    assert answer.failed.code == "invalid_request"
    assert "gather_generation_logits" in answer.failed.message


async def test_a_busy_engine_tells_how_full_its_cache_is(asking: Client) -> None:
    await asking.put(f"{QUESTION} [[step_ms=20]]", max_tokens=300, ignore_eos=True)
    beat = await heartbeat(asking.db, asking.model_id, lambda beat: bool(beat.kv_cache_usage))
    assert 0 < (beat.kv_cache_usage or 0) < 1


async def test_an_executor_that_dies_takes_the_worker_with_it_and_leaves_the_jobs(
    workers: Workers, client: Client, plan: dict[str, Any]
) -> None:
    worker = await workers.ready(plan)
    bystander = await client.put(QUESTION, max_tokens=200, ignore_eos=True)
    doomed = await client.put(f"{QUESTION} [[die_at=5]]", max_tokens=40, ignore_eos=True)
    assert await worker.exit_code(timeout_s=30) == 70
    assert (bystander.end, doomed.end) == (None, None)


async def test_a_plan_serves_from_its_own_directory_alone(
    workers: Workers, client: Client, plan: dict[str, Any], tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(plan["model_path"], moved)
    (moved / "ew_manifest.json").unlink()
    await workers.ready({**plan, "model_path": str(moved)})
    answer = await client.ask("Hello.")
    assert answer.done.finish_reasons == ("stop",)
