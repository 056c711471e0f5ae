"""Answers through vLLM's own parsers, in vLLM's own environment: pieces, and going on from
any token of an answer that another worker began."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from contract.paths import ROOT
from tests.engines.contract.engines import vllm_python

SCRIPT = """
import json
from types import SimpleNamespace
from transformers import AutoTokenizer
from vllm.sampling_params import StructuredOutputsParams
from contract.config import ModelConfig
from contract.asked import ToolCall, Tools
from contract.messages import ChatMessage, Job, Sampling
from workers.engine import CannotServe, JobRejected
from workers.engines.vllm.parsing.asked import request_of
from workers.engines.vllm.parsing.parsers import VllmParsers
from workers.answers.transcript import Transcript

tokenizer = AutoTokenizer.from_pretrained("deploy/demo-model")
tokenizer.add_tokens(["<think>", "</think>"])
model = SimpleNamespace(hf_config=SimpleNamespace(model_type="llama"))
model.hf_text_config = model.hf_config
ADD = json.dumps([{"type": "function", "function": {
    "name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}])

def parsing_of(tools, outputs=None, library="xgrammar", sampling=Sampling(), **parsers):
    made = VllmParsers(ModelConfig(model_path="x", **parsers), tokenizer, model, library)
    job = Job("j", "m", sampling, messages=(ChatMessage("user", "hi"),), tools=tools)
    return made.of(job, [1, 2, 3], outputs)

def constraint(choice, **parsers):
    # The constraint of a tool whose parameters xgrammar would forget a part of.
    parameters = {"type": "object", "properties": {"a": {"type": "integer"}},
        "anyOf": [{"required": ["a"]}]}
    tool = {"name": "add", "strict": True, "parameters": parameters}
    tools = Tools(json.dumps([{"type": "function", "function": tool}]), choice, "add")
    outputs = parsing_of(tools, **parsers).sampling()["structured_outputs"]
    return json.dumps(outputs.json) if outputs.json else outputs.structural_tag

def said(parsed, decode, transcript, ids):
    pieces = [parsed.feed(decode(token), [token], finished=False) for token in ids]
    return "".join(transcript.piece(*piece) for each in pieces for piece in each)

def read(text, tools, **parsers):
    parsing = parsing_of(tools, **parsers)
    ids = tokenizer.encode(text, add_special_tokens=False)
    skips = parsing.request.skip_special_tokens
    decode = lambda: parsing._parsers.detokenizer([1, 2, 3], skips)
    whole = said(parsing.new_choice(), decode(), Transcript(), ids)
    for cut in range(len(ids)):
        first = said(parsing.new_choice(), decode(), Transcript(), ids[:cut])
        # Of the last piece the client may have a part: the rest was lost with the worker.
        for sent in {first, first[:-1]}:
            replay = parsing.replay(ids[:cut], sent)
            stream = decode()
            for token in ids[:replay.keep]:
                stream(token)
            rest = said(replay.parsed, stream, replay.after, ids[replay.keep:])
            begun = sent[:len(sent) - len(replay.again)]
            assert begun + rest == whole, (cut, sent, replay, rest)
            assert rest.startswith(replay.again)
    return {"said": whole, "schema": parsing.is_constrained}

def read_at_once(text, tools, **parsers):
    parsed = parsing_of(tools, **parsers).new_choice()
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = [parsed.feed(tokenizer.decode([token]), [token], finished=number == len(ids))
        for number, token in enumerate(ids, start=1)]
    transcript = Transcript()
    return "".join(transcript.piece(*piece) for each in pieces for piece in each)

def refused(make):
    try:
        make()
    except (CannotServe, JobRejected) as error:
        return str(error)

def with_earlier_parsers(make):
    # As in vLLM 0.26, whose function has all these arguments but the tokenizer.
    from vllm.parser import ParserManager
    now = ParserManager.get_parser
    def earlier(tool_parser_name=None, reasoning_parser_name=None, enable_auto_tools=False,
            model_name=None, is_harmony=False):
        raise AssertionError("it is not called")
    ParserManager.get_parser = earlier
    try:
        return make()
    finally:
        ParserManager.get_parser = now

def asked(**more):
    call = ToolCall("c", "add", "{}")
    messages = (ChatMessage("user", "hi"), ChatMessage("assistant", "", tool_calls=(call,)))
    return request_of(Job("j", "m", Sampling(), messages=messages), {"x": 1}, None)

def checked(request):
    # The same request, with all that is in it looked at by vLLM.
    said = request.model_dump(exclude_unset=True)
    return type(request).model_validate(said | {"request_id": request.request_id})

def usual_requests():
    first, second = asked(), asked()
    first.messages.append(None)
    first.skip_special_tokens = False
    first.chat_template_kwargs["x"] = 2
    return [vars(checked(second)) == vars(second), second.skip_special_tokens,
        second.chat_template_kwargs, json.loads(json.dumps(second.messages))]

print(json.dumps({
    "usual": usual_requests(),
    "auto": read('So: <tool_call>\\n{"name": "add", "arguments": {"a": 12}}\\n</tool_call>',
        Tools(ADD), tool_parser="hermes"),
    "named": read('{"a": 3}', Tools(ADD, "named", "add")),
    "required": read('[{"name": "add", "parameters": {"a": 1}}, '
        '{"name": "add", "parameters": {"a": 2}}]', Tools(ADD, "required")),
    "one": read('[{"name": "add", "parameters": {"a": 1}}, '
        '{"name": "add", "parameters": {"a": 2}}]', Tools(ADD, "required", parallel=False)),
    "reasoning": read('<think>I see\\u20ac.</think>Gr\\u00fc\\u00dfe \\U0001f600!', None,
        reasoning_parser="deepseek_r1"),
    "silent": [
        read_at_once(text, Tools(ADD), tool_parser="phi4_mini_json")
        for text in ('functools[{"name": "add", "arguments": {"a": 1}}]', "Just text.")
    ],
    "plain": [parsing_of(None), parsing_of(None, tool_parser="hermes"),
        parsing_of(Tools(ADD, "none"), tool_parser="hermes")],
    "earlier, plain": with_earlier_parsers(lambda: parsing_of(None)),
    "earlier, tools": with_earlier_parsers(
        lambda: refused(lambda: parsing_of(Tools(ADD, "required")))),
    "earlier, parser": with_earlier_parsers(
        lambda: refused(lambda: parsing_of(None, tool_parser="hermes"))),
    "constraints": {
        "named": constraint("named"), "required": constraint("required"),
        "tag": constraint("auto", tool_parser="hermes"),
        "tag named": constraint("named", tool_parser="hermes"),
        "guidance": constraint("named", tool_parser="hermes", library="guidance"),
    },
    "by guidance": read_at_once('{"a": 3}', Tools(ADD, "named", "add"), library="guidance",
        tool_parser="hermes"),
    "special tokens": [
        parsing_of(Tools(ADD, "required"), sampling=Sampling(skip_special_tokens=skips))
        .sampling()["skip_special_tokens"] for skips in (True, False)
    ],
    "no parser": refused(lambda: parsing_of(Tools(ADD))),
    "odd tag": refused(lambda: parsing_of(None, StructuredOutputsParams(structural_tag=
        '{"type": "structural_tag", "format": {"type": "odd"}}'), reasoning_parser="deepseek_r1")),
    "unknown": refused(lambda: parsing_of(None, tool_parser="nonesuch")),
}))
"""


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    done = subprocess.run([vllm_python(), "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_usual_requests_are_as_if_vllm_had_checked_each_and_share_nothing(
    said: dict[str, Any],
) -> None:
    same, skips, arguments, messages = said["usual"]
    assert (same, skips, arguments) == (True, True, {"x": 1})
    assert [each["role"] for each in messages] == ["user", "assistant"]
    assert messages[1]["tool_calls"][0]["function"]["name"] == "add"


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_whether_special_tokens_are_text_is_as_the_job_says(said: dict[str, Any]) -> None:
    assert said["special tokens"] == [True, False]


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_vllms_parsers_tell_calls_and_reasoning_from_text_wherever_an_answer_is_cut(
    said: dict[str, Any],
) -> None:
    assert said["auto"] == {"said": 'So: \x000 add\x00{"a": 12}', "schema": False}
    assert said["named"] == {"said": '\x000 add\x00{"a": 3}', "schema": True}
    first, second = '\x000 add\x00{"a": 1}', '\x001 add\x00{"a": 2}'
    assert said["required"] == {"said": first + second, "schema": True}
    assert said["one"]["said"] == first
    thought = "\x00reasoning \x00I see€.\x00text \x00Grüße 😀!"
    assert said["reasoning"] == {"said": thought, "schema": False}
    assert said["silent"] == [first, "Just text."]
    assert said["plain"] == [None, None, None]


@pytest.mark.vllm
def test_what_xgrammar_would_forget_of_a_tools_parameters_is_folded(said: dict[str, Any]) -> None:
    folded = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
    assert said["constraints"]["named"] == folded
    for kind in ("required", "tag"):
        assert folded in said["constraints"][kind]


@pytest.mark.vllm
def test_calls_are_forced_as_json_where_the_library_reads_no_tags(said: dict[str, Any]) -> None:
    constraints = said["constraints"]
    assert '"begin": "<tool_call>' in constraints["tag named"]
    assert constraints["guidance"] == constraints["named"]
    assert said["by guidance"] == '\x000 add\x00{"a": 3}'


@pytest.mark.vllm
def test_what_cannot_be_parsed_is_refused_by_name(said: dict[str, Any]) -> None:
    assert "its entry names no `tool_parser`" in said["no parser"]
    assert "nonesuch" in said["unknown"]
    assert "Invalid structured_outputs structural_tag" in said["odd tag"]


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_a_release_with_parsers_of_an_earlier_form_serves_what_needs_none(
    said: dict[str, Any],
) -> None:
    assert said["earlier, plain"] is None
    assert said["earlier, tools"] == "this engine's release takes no tools"
    assert "this vLLM has no parsers that ew knows how to use" in said["earlier, parser"]
