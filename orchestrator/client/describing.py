"""Engines are asked what they make of models, before a command estimates or starts them. Once for
each model, release of its engine and kind of GPU: the answers are remembered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from contract.config import ModelConfig
from contract.engines import declaration_of
from orchestrator.errors import UserError
from orchestrator.estimate.description import Question, ask, remembered
from orchestrator.estimate.running import Card
from orchestrator.gpu.what_if.what_if import this_host
from orchestrator.protocol.control import Start
from orchestrator.protocol.status import read_status
from orchestrator.terminal.speech import say

#: The longest that a start may wait for it: it would go on with ew's own reading.
_START_WAITS_S: Final = 60.0


class Installed(NamedTuple):
    """A model, and the engine that would run it, in an environment that is set up."""

    model: ModelConfig
    engine: str
    release: str
    python: Path


def ask_engines(
    subjects: Iterable[Installed], card: Card, within_s: float = _START_WAITS_S
) -> Iterator[str]:
    """Ask those that have not been asked. Yields what went wrong; nothing of it is in the way of
    anything. Blocks for some 10 s for each environment."""
    by_python: dict[Path, list[Question]] = {}
    for each in subjects:
        question = _question(each, card)
        if question is not None and remembered(question) is None:
            by_python.setdefault(each.python, []).append(question)
    for python, questions in by_python.items():
        say("asking the engine what it makes of its models, which it does once")
        problem = ask(questions, python, within_s)
        if problem:
            yield problem


def ask_before(request: Start) -> None:
    """Before models are started on this host's GPUs. Does nothing where all have been asked."""
    workers = [each for each in request.workers if _is_placed(each.engine)]
    if not workers:
        return
    where = this_host(read_status())
    if not where.devices:
        return
    subjects = (
        Installed(
            ModelConfig.model_validate(each.spec["model"]),
            each.engine,
            each.version,
            Path(each.python),
        )
        for each in workers
        if each.replica == 0
    )
    for problem in ask_engines(subjects, where.card):
        say(problem)


def _is_placed(engine: str) -> bool:
    """Return whether where it goes depends on what it makes of its model."""
    declared = declaration_of(engine)
    return declared.describes_models and declared.gpu_memory is not None


def _question(subject: Installed, card: Card) -> Question | None:
    if not declaration_of(subject.engine).describes_models:
        return None
    try:
        return Question.of(subject.model, subject.engine, subject.release, card)
    except UserError:
        # Its files are not here; the estimate, or the start, says so.
        return None
