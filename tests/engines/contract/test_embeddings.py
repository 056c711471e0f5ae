"""Embeddings: a vector for each input, whatever its form, and no text."""

from __future__ import annotations

import asyncio
from array import array
from typing import Any

import pytest

from contract.asked import Pooling
from tests.engines.contract.harness import Client

pytestmark = pytest.mark.needs("embeddings")


@pytest.mark.parametrize(
    "inputs", [("one", "two three", "four", "one"), ((5, 6), (7,), (8,), (5, 6))]
)
async def test_each_input_has_its_vector(client: Client, inputs: tuple[Any, ...]) -> None:
    answer = await client.ask(pooling=Pooling(inputs))
    vectors = {number: array("f", vector) for number, vector in answer.vectors.items()}
    assert sorted(vectors) == [0, 1, 2, 3]
    assert len({len(vector) for vector in vectors.values()}) == 1
    assert vectors[0] == pytest.approx(vectors[3], abs=1e-5)
    assert vectors[0] != pytest.approx(vectors[1], abs=1e-5)
    assert answer.done.prompt_tokens > 4
    assert answer.done.completion_tokens == 0
    assert answer.text == ""


async def test_many_at_once_do_not_get_mixed_up(client: Client) -> None:
    texts = ["a" * length for length in range(1, 9)]
    alone = [(await client.ask(pooling=Pooling((text,)))).vectors[0] for text in texts]
    together = await asyncio.gather(*(client.ask(pooling=Pooling((text, "x"))) for text in texts))
    for one, answer in zip(alone, together, strict=True):
        assert array("f", answer.vectors[0]) == pytest.approx(array("f", one), abs=1e-4)
