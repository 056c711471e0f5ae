"""Engines that only write text name what they cannot do, and themselves."""

from __future__ import annotations

from typing import Any

import pytest

from contract.asked import Pooling, PromptReport, Tools
from contract.messages import ChatMessage, ErrorCode, Job, Sampling
from workers.engine import JobRejected
from workers.engines.shared.refusals import require_plain

CHAT = (ChatMessage("user", "hi"),)
REFUSED: dict[str, dict[str, Any]] = {
    "embeddings": {"pooling": Pooling(("a",))},
    "`suffix`": {"prompt": "a", "suffix": "b"},
    "`prompt_logprobs`": {"prompt": "a", "report": PromptReport(logprobs=1)},
    "`logit_bias`": {"sampling": Sampling(logit_bias={5: 1.0})},
    "`stop_token_ids`": {"sampling": Sampling(stop_token_ids=(5,))},
    "`bad_words`": {"sampling": Sampling(bad_words=("a",))},
    "`allowed_token_ids`": {"sampling": Sampling(allowed_token_ids=(5,))},
    "`include_stop_str_in_output`": {"sampling": Sampling(include_stop_str_in_output=True)},
    "`skip_special_tokens`": {"sampling": Sampling(skip_special_tokens=False)},
}


def job(sampling: Sampling | None = None, **asked: Any) -> Job:
    return Job("j", "m", sampling or Sampling(), **asked)


@pytest.mark.parametrize("named", REFUSED)
def test_what_an_engine_cannot_do_is_refused_by_name(named: str) -> None:
    with pytest.raises(JobRejected) as refused:
        require_plain(job(**REFUSED[named]), "cuda-trt")
    assert refused.value.code is ErrorCode.INVALID_REQUEST
    assert named in str(refused.value)
    assert "cuda-trt" in str(refused.value)


def test_tools_that_may_not_be_called_are_words_of_the_prompt() -> None:
    require_plain(job(messages=CHAT, tools=Tools("[]", "none")), "cuda-trt")
