"""Fixtures for tests of engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.sglang_parsers import install_parsers
from tests.engines.vllm_process import VllmProcess


@pytest.fixture(scope="session")
def vllm_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmProcess]:
    """One for all tests that ask vLLM itself, without a model."""
    process = VllmProcess(tmp_path_factory.mktemp("vllm"))
    yield process
    process.close()


@pytest.fixture(scope="session")
def sglang_parsers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where SGLang's own parsers are."""
    return install_parsers(tmp_path_factory.mktemp("sglang"))
