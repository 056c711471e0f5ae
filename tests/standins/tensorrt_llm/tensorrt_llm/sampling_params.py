"""`SamplingParams` and `GuidedDecodingParams`, with the checks that the real ones make."""

from __future__ import annotations

import os
from typing import Any

from .release import dataclass_of


class _Guides:
    def _validate(self) -> None:
        given = sum(map(bool, vars(self).values()))
        if given > 1:
            raise ValueError(f"Only one guide can be used for a request, but got {given}.")


GuidedDecodingParams = dataclass_of("GuidedDecodingParams", base=_Guides)


class _Checks:
    def __post_init__(self) -> None:
        self.best_of = self.best_of or self.n
        self.stop_word_ids: list[list[int]] = []
        if self.top_p is not None and not 0 <= self.top_p <= 1:
            raise ValueError(f"require 0 <= top_p <= 1, got top_p={self.top_p}")
        if self.top_k is not None and self.top_k < 0:
            raise ValueError(f"require top_k >= 0, got top_k={self.top_k}")
        if self.temperature is not None and self.temperature < 0:
            raise ValueError(f"require temperature >= 0, got temperature={self.temperature}")
        if self.best_of < self.n:
            raise ValueError(f"best_of ({self.best_of}) cannot be less than n ({self.n})")
        if (
            self.best_of > 1
            and self.is_greedy
            and not os.environ.get("TLLM_ALLOW_N_GREEDY_DECODING")
        ):
            raise ValueError(
                "Greedy decoding in the LLM API does not allow multiple returns. Please set to "
                f"best_of=1, got best_of={self.best_of}. Please set to best_of=1 or set an "
                "environment variable TLLM_ALLOW_N_GREEDY_DECODING=1 to allow best_of > 1 "
                "under the greedy decoding."
            )
        if self.guided_decoding is not None:
            self.guided_decoding._validate()

    @property
    def is_greedy(self) -> bool:
        """As the older releases decide: a temperature alone does not make them sample."""
        if self.use_beam_search:
            return False
        return (
            self.temperature == 0
            or (self.top_k in (None, 1) and self.top_p in (None, 0.0))
            or self.top_k == 1
        )

    @property
    def stop_strings(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or [])

    def setup(self, tokenizer: Any) -> None:
        """Set what the real one sets before the first step: the end token, stop strings as
        tokens."""
        if self.end_id is None:
            self.end_id = tokenizer.eos_token_id
        self.stop_word_ids = [
            tokenizer.encode(text, add_special_tokens=False) for text in self.stop_strings
        ]

    @property
    def stop_reasons_and_words(self) -> list[tuple[int | str, list[int]]]:
        ids = self.stop_token_ids or []
        words = [[token_id] for token_id in ids] + self.stop_word_ids
        return list(zip([*ids, *self.stop_strings], words, strict=True))


SamplingParams = dataclass_of("SamplingParams", base=_Checks)
