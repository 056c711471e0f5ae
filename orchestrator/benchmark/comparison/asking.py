"""Asks two models the same, a few prompts at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from orchestrator.benchmark.comparison.answer import AnswerReader, ReadAnswer
from orchestrator.benchmark.comparison.parity import AnswerPair
from orchestrator.benchmark.comparison.prompts import ComparedRequest
from orchestrator.benchmark.http_connection import HttpConnections
from orchestrator.benchmark.load_test import PATHS, ServerUnderTest
from orchestrator.errors import UserError

#: An answer may take so long; the first one may have its model loaded.
_ANSWER_S: Final = 600.0
#: ew's own: the model that is named answers, and no other for it.
_UNMOVED: Final = {"X-EW-Route": "none"}
_WITH_LOGPROBS: Final = {
    PATHS["chat"]: {"logprobs": True, "top_logprobs": 0},
    PATHS["completions"]: {"logprobs": 0},
}


class Comparison:
    """Sends each request to both models: to A first and to B first in turn, and never to both at
    once, so that neither has the host's better moments. `pairs` has what is answered so far."""

    def __init__(
        self, servers: Sequence[ServerUnderTest], told: Callable[[str], object], *, logprobs: bool
    ) -> None:
        self._models = [_AskedModel(server, logprobs=logprobs) for server in servers]
        self._told = told
        self.pairs: list[AnswerPair] = []

    def without_logprobs(self) -> list[str]:
        """Return the models that were to tell log probabilities, and do not."""
        return [each.server.model for each in self._models if each.refused_logprobs]

    async def run(self, requests: Sequence[ComparedRequest], at_once: int) -> None:
        """Ask everything. Raises `UserError` if a model does not answer at all."""
        try:
            for model in self._models:
                self._told(f"{model.server.model}: the first answer")
                await model.begin(requests[0])
            waiting = iter(enumerate(requests))
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(self._keep_asking(waiting, len(requests)))
        finally:
            for model in self._models:
                model.close()

    async def _keep_asking(
        self, waiting: Iterator[tuple[int, ComparedRequest]], total: int
    ) -> None:
        for number, request in waiting:
            a, b = self._models
            if number % 2:
                second = await b.ask(request)
                first = await a.ask(request)
            else:
                first = await a.ask(request)
                second = await b.ask(request)
            self.pairs.append(AnswerPair(request.words, first, second))
            self._told(f"{len(self.pairs)} of {total} prompts")


class _AskedModel:
    """One of the two, where it is."""

    def __init__(self, server: ServerUnderTest, *, logprobs: bool) -> None:
        self.server = server
        self._with_logprobs = logprobs
        self.refused_logprobs = False
        self._connections = HttpConnections(server.endpoint, _UNMOVED)

    async def begin(self, request: ComparedRequest) -> None:
        """See that it answers, and whether it tells log probabilities. Raises `UserError`."""
        answer = await self.ask(request)
        if answer.error.startswith("400") and self._with_logprobs:
            self._with_logprobs = False
            answer = await self.ask(request)
            self.refused_logprobs = not answer.error
        elif self._with_logprobs and not answer.error:
            self.refused_logprobs = not answer.logprobs
        if answer.error:
            name = self.server.model
            hint = "`./ew models` and `./ew status` show what there is; `./ew logs` says more"
            raise UserError(
                f"{self.server.name} does not answer for `{name}`: {answer.error}", hint
            )

    def close(self) -> None:
        self._connections.close()

    async def ask(self, request: ComparedRequest) -> ReadAnswer:
        """Return its answer, or the error."""
        body: dict[str, Any] = {**request.body, "model": self.server.model}
        if self._with_logprobs:
            body |= _WITH_LOGPROBS[request.path]
        reader = AnswerReader()
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._connections.post(request.path, msgspec.json.encode(body), reader)
        except TimeoutError:
            return ReadAnswer(error=f"no answer within {_ANSWER_S:.0f} s")
        except OSError as error:
            return ReadAnswer(error=str(error) or type(error).__name__)
        return reader.finish()
