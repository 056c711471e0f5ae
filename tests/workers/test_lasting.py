"""Which failures of a start are told to the supervisor as lasting, and in which words."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError
from pydantic import BaseModel, field_validator

from contract.endings import CANNOT_SERVE, REASON
from tests.workers.worker_processes import WorkerProcesses
from workers.engine import CannotServe
from workers.lasting import lasting_reason


def gated() -> GatedRepoError:
    """As the hub's library raises it."""
    response = httpx.Response(403, request=httpx.Request("GET", "https://hub/model"))
    return GatedRepoError("403 Client Error", response=response)


class OwnConfig(BaseModel):
    """As an engine checks its configuration."""

    block_size: int = 0
    path: str = ""

    @field_validator("path")
    @classmethod
    def _is_there(cls, path: str) -> str:
        if path == "offline":
            raise ValueError("no such repository") from ConnectionError("refused")
        raise ValueError("Model architectures ['X'] are not supported for now")


def raised(what: Any, *, of: BaseException | None = None) -> BaseException:
    try:
        if isinstance(what, BaseException):
            raise what from of
        what()
    except Exception as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CannotServe("no such\n adapter"), "no such adapter"),
        (ModuleNotFoundError("No module named 'vllm'"), "No module named 'vllm'"),
        (raised(lambda: OwnConfig(block_size="many")), "`block_size`: Input should be a valid int"),
        (
            raised(lambda: OwnConfig(path="x")),
            "`path`: Model architectures ['X'] are not supported",
        ),
        (raised(OSError("a gated repo"), of=gated()), "GatedRepoError: a gated repo"),
        (CannotServe("x" * 1000), f"{'x' * 240}..."),
    ],
)
def test_what_would_fail_again_has_a_reason_in_one_line(error: Exception, reason: str) -> None:
    said = lasting_reason(error)
    assert said is not None
    assert said.startswith(reason)
    assert "\n" not in said


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error"),
        ValueError("No available memory for the cache blocks"),
        OSError(28, "No space left on device"),
        raised(OSError("couldn't connect"), of=LocalEntryNotFoundError("offline")),
        raised(lambda: OwnConfig(path="offline")),
        raised(ImportError("half of it"), of=ConnectionError("refused")),
    ],
)
def test_what_may_come_right_has_none(error: Exception) -> None:
    assert lasting_reason(error) is None


async def test_a_worker_that_is_configured_wrong_says_so_in_its_exit_code_and_its_last_line(
    workers: WorkerProcesses,
) -> None:
    member = workers.start(engine_args={"tokens_per_sec": 3})
    assert await member.exits() == CANNOT_SERVE
    last = member.log().splitlines()[-1]
    said = "the mock engine has no argument `tokens_per_sec`; did you mean `tokens_per_s`?"
    assert last.endswith(f" {REASON}{said}")
