"""The report of a comparison, as it is written: docs/bench.md describes the JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median
from typing import Any, Final

import msgspec

from orchestrator.benchmark.comparison.answer import ReadAnswer
from orchestrator.benchmark.comparison.parity import AnswerPair
from orchestrator.benchmark.measurement import MeasuredServer, Spread, client_host
from orchestrator.benchmark.tally import TimeHistogram
from orchestrator.system.version import version

COMPARISON_FORMAT: Final = 1
_DIGITS: Final = 4


class Parity(msgspec.Struct, frozen=True):
    """How alike the answers are, of the prompts that both answered. `first_difference` is the
    median number of tokens before the first one, of those that differ; None if none does."""

    compared: int
    same_text: int
    same_finish_reason: int
    first_difference: float | None
    earliest_difference: int | None
    #: Of tokens that both have said before they differ; None where one tells none.
    logprobs: LogprobGap | None

    @classmethod
    def of(cls, pairs: Sequence[AnswerPair]) -> Parity:
        whole = [pair for pair in pairs if pair.is_whole]
        found = [pair.first_difference() for pair in whole]
        parted = [each for each in found if each is not None]
        return cls(
            compared=len(whole),
            same_text=sum(pair.is_same for pair in whole),
            same_finish_reason=sum(pair.a.finish_reason == pair.b.finish_reason for pair in whole),
            first_difference=median(parted) if parted else None,
            earliest_difference=min(parted, default=None),
            logprobs=LogprobGap.of(whole),
        )


class LogprobGap(msgspec.Struct, frozen=True):
    """Absolute differences of log probabilities, over so many tokens."""

    tokens: int
    mean: float
    largest: float

    @classmethod
    def of(cls, pairs: Iterable[AnswerPair]) -> LogprobGap | None:
        gaps = [gap for pair in pairs for gap in pair.logprob_differences()]
        if not gaps:
            return None
        return cls(len(gaps), round(fmean(gaps), _DIGITS), round(max(gaps), _DIGITS))


class ModelSide(msgspec.Struct, frozen=True):
    """The answers of one of the two models. Means and medians are of good answers."""

    good: int
    failed: int
    finish_reasons: dict[str, int]
    mean_tokens: float | None
    ttft_ms: Spread
    gap_ms: Spread
    #: Of one answer, after its first token: the median.
    tokens_per_s: float | None
    errors: dict[str, int]

    @classmethod
    def of(cls, answers: Sequence[ReadAnswer]) -> ModelSide:
        good = [each for each in answers if not each.error]
        speeds = [each.tokens_per_s for each in good if each.tokens_per_s is not None]
        errors = Counter(each.error for each in answers if each.error)
        return cls(
            good=len(good),
            failed=len(answers) - len(good),
            finish_reasons=dict(Counter(each.finish_reason for each in good).most_common()),
            mean_tokens=round(fmean(each.tokens for each in good), 1) if good else None,
            ttft_ms=_spread(each.first_s for each in good),
            gap_ms=_spread(gap for each in good for gap in each.gaps),
            tokens_per_s=round(median(speeds), 1) if speeds else None,
            errors=dict(errors.most_common()),
        )


class ComparisonReport(msgspec.Struct):
    """All of one `ew compare`."""

    began: str
    settings: dict[str, Any]
    servers: list[MeasuredServer]
    prompts: int
    is_interrupted: bool
    parity: Parity
    sides: list[ModelSide]
    format: int = COMPARISON_FORMAT
    ew: str = msgspec.field(default_factory=version)
    host: dict[str, Any] = msgspec.field(default_factory=client_host)


def sides_of(pairs: Sequence[AnswerPair]) -> list[ModelSide]:
    """Return what each model did."""
    pick: tuple[Callable[[AnswerPair], ReadAnswer], ...] = (lambda p: p.a, lambda p: p.b)
    return [ModelSide.of([answer(pair) for pair in pairs]) for answer in pick]


def _spread(seconds: Iterable[float | None]) -> Spread:
    histogram = TimeHistogram()
    for each in seconds:
        if each is not None:
            histogram.add(each)
    return Spread.of(histogram)
