"""Fixtures for tests of engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines.vllm_process import VllmProcess


@pytest.fixture(scope="session")
def vllm_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmProcess]:
    """One for all tests that ask vLLM itself, without a model."""
    process = VllmProcess(tmp_path_factory.mktemp("vllm"))
    yield process
    process.close()
