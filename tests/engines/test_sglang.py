"""SGLang's adapter without SGLang: what it asks for, and what it makes of outputs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from contract.asked import Guided
from contract.config import ModelConfig
from contract.messages import Sampling, TokenLogprob
from contract.paths import ROOT
from tests.engines.test_sglang_signatures import a_spec
from workers.engines.sglang.answer import SglangChoice
from workers.engines.sglang.arguments import CONTEXT_MARGIN, server_arguments
from workers.engines.sglang.sampling import sampling_settings
from workers.engines.shared.endings import EndedBadly

DEMO = str(ROOT / "deploy" / "demo-model")


def arguments(**settings: Any) -> dict[str, Any]:
    spec = {name: settings.pop(name) for name in ("kv_cache_tokens",) if name in settings}
    model = ModelConfig(engine="cuda-sglang", model_path=DEMO, **settings)
    return server_arguments(a_spec(model).model_copy(update=spec), dict(model.adapters))


def output(text: str, ids: list[int], finish: Any = None, **said: Any) -> dict[str, Any]:
    return {"text": text, "output_ids": ids, "meta_info": {"finish_reason": finish, **said}}


def test_the_planned_cache_is_given_in_tokens() -> None:
    assert arguments(kv_cache_tokens=4096, max_model_len=128)["max_total_tokens"] == 4096
    with pytest.raises(ValueError, match="the memory planned for the KV cache holds 100 tokens"):
        arguments(kv_cache_tokens=100, max_model_len=128)


def test_a_part_of_the_gpu_leaves_room_for_what_is_not_static() -> None:
    assert arguments(gpu_memory_utilization=0.5)["mem_fraction_static"] == 0.45
    assert "mem_fraction_static" not in arguments()


def test_the_context_has_the_tokens_that_sglang_keeps_back() -> None:
    assert arguments(max_model_len=128)["context_length"] == 128 + CONTEXT_MARGIN
    assert arguments(max_model_len=10**6)["context_length"] == 10**6
    assert "context_length" not in arguments()


def test_sleep_keeps_the_weights() -> None:
    asleep = arguments(sleep=True, load="on-demand")
    assert asleep["enable_memory_saver"] and asleep["enable_weights_cpu_backup"]


def test_engine_args_win() -> None:
    given = arguments(max_batch_size=4, engine_args={"max_running_requests": 2, "page_size": 8})
    assert (given["max_running_requests"], given["page_size"]) == (2, 8)


def test_one_place_more_than_adapters_is_for_requests_without_one() -> None:
    given = arguments(adapters={"a": "/a", "b": "/b"})
    assert given["lora_paths"] == {"a": "/a", "b": "/b"}
    assert given["max_loras_per_batch"] == 3


def test_sampling_is_said_in_its_words() -> None:
    asked = Sampling(min_tokens=5, top_k=0, stop=("END",), temperature=0.0)
    settings = sampling_settings(asked, {"top_p": 0.9, "temperature": 0.7}, 20, 2)
    assert settings["max_new_tokens"] == 20
    assert settings["min_new_tokens"] == 3
    assert (settings["top_k"], settings["top_p"], settings["temperature"]) == (-1, 0.9, 0.0)
    assert (settings["stop"], settings["no_stop_trim"]) == (["END"], True)
    choice = sampling_settings(Sampling(guided=Guided("choice", '["a.b", "c"]')), {}, 1, 0)
    assert choice["regex"] == r"(a\.b|c)"


def test_a_stop_string_is_held_back_and_cut_off() -> None:
    choice = SglangChoice(["END"], str)
    assert choice.advance(output("so E", [1])) == ("so ", [1], None)
    assert choice.advance(output("N", [2])) == ("", [2], None)
    end = output("D", [3], {"type": "stop", "matched": "END"})
    assert choice.advance(end) == ("", [3], None)
    assert (choice.reason, choice.stop_string) == ("stop", "END")


def test_what_only_began_as_one_is_said_at_the_end() -> None:
    choice = SglangChoice(["END"], str)
    choice.advance(output("so EN", [1]))
    assert choice.advance(output("", [2], {"type": "length", "length": 2}))[0] == "EN"
    assert choice.reason == "length"


def test_a_stop_string_of_the_last_token_is_no_end_by_length() -> None:
    choice = SglangChoice(["END"], str)
    said = choice.advance(output("so END", [1], {"type": "length", "length": 1}))
    assert said[0] == "so "
    assert (choice.reason, choice.stop_string) == ("stop", "END")


def test_log_probabilities_are_of_the_new_tokens() -> None:
    choice = SglangChoice([], lambda ids: f"<{ids[0]}>")
    said = {
        "output_token_logprobs": [(-0.5, 7, None)],
        "output_top_logprobs": [[(-0.5, 7, None), (-1.5, 8, None), (-math.inf, 9, None)]],
    }
    (logprob,) = choice.advance(output("a", [7], **said))[2] or ()
    assert (logprob.token, logprob.logprob) == ("<7>", -0.5)
    assert logprob.alternatives == (("<7>", -0.5), ("<8>", -1.5), ("<9>", -9_999.0))


def test_without_alternatives_a_token_is_its_own() -> None:
    choice = SglangChoice([], lambda ids: f"<{ids[0]}>")
    said = {"output_token_logprobs": [(-0.5, 7, None)]}
    assert choice.advance(output("a", [7], **said))[2] == (
        TokenLogprob("<7>", -0.5, (("<7>", -0.5),)),
    )


def test_an_abort_is_the_requests_fault_only_if_sglang_says_so() -> None:
    refused = {"type": "abort", "status_code": 400, "message": "bad grammar"}
    with pytest.raises(ValueError, match="bad grammar"):
        SglangChoice([], str).advance(output("", [], refused))
    lost = {"type": "abort", "status_code": None, "message": "Aborted"}
    with pytest.raises(EndedBadly, match="Aborted"):
        SglangChoice([], str).advance(output("", [], lost))
