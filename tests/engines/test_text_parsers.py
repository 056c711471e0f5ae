"""Answers through the parsers of SGLang and TensorRT-LLM: pieces, and going on from any token of an
answer that another worker began. The parsers are those of the stand-ins; `./ew test -m slow` has
SGLang's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contract.paths import ROOT
from tests.engines.vllm_process import VllmProcess

SCRIPT = """
import json, os, sys
given = json.load(sys.stdin)
os.environ |= given["variables"]
sys.path[:0] = given["paths"]
from transformers import AutoTokenizer
from contract.asked import Guided, Template, Tools
from contract.config import ModelConfig
from contract.messages import ChatMessage, Job, Sampling
from workers.engine import CannotServe, JobRejected
from workers.engines.prompts import Prompts
from workers.engines.shared.parsing.parsers import TextParsers
from workers.answers.transcript import Transcript

engine = given["engine"]
tokenizer = AutoTokenizer.from_pretrained("deploy/demo-model")
prompts = Prompts(tokenizer, 512, 1024)
ADD = [{"type": "function", "function": {
    "name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}]
STRICT = [{"type": "function", "function": ADD[0]["function"] | {"strict": True}}]

def parsers_of(takes_tags=True, **entry):
    model = ModelConfig(engine=engine, model_path="x", **entry)
    if engine == "cuda-sglang":
        from workers.engines.sglang.parsing import SglangParsers as Library, known_parsers
        chosen, context, more = known_parsers(model), tokenizer, {}
    else:
        from workers.engines.trtllm.parsing import TrtllmParsers as Library, known_parsers
        chosen, context = known_parsers(model), prompts.is_special
        more = {"takes_tags": takes_tags}
    library = Library(chosen, context, **more)
    return TextParsers(chosen, library, prompts, {tokenizer.eos_token_id})

# The line between two calls is text to some parsers, as long as it does not come with a call.
BETWEEN = "\\x00text \\x00\\n"
BOTH = dict(given["parsers"])
CALLS = {"tool_parser": BOTH["tool_parser"]}
THOUGHTS = {"reasoning_parser": BOTH["reasoning_parser"]}

def parsing_of(tools=None, prompt="hi", guided=None, template=None, said="hi", **entry):
    messages = (ChatMessage("assistant" if template else "user", said),)
    job = Job("j", "m", Sampling(guided=guided), messages=messages, tools=tools, template=template)
    return parsers_of(**entry).of(job, tokenizer.encode(prompt))

def transcript_of(parsed, pieces, transcript=None):
    transcript = transcript or Transcript()
    return "".join(transcript.piece(*piece) for each in pieces for piece in each)

def fed(parsing, parsed, ids, transcript, before=(), finished=False):
    from workers.engines.shared.parsing.replay import token_decoder
    step = token_decoder(parsing.decode)
    for token in before:
        step(token)
    pieces = [parsed.feed(step(token), [token], finished=finished and number == len(ids))
        for number, token in enumerate(ids, start=1)]
    return transcript_of(parsed, pieces, transcript)

def read(text, tools=None, **how):
    parsing = parsing_of(tools, **how)
    ids = tokenizer.encode(text, add_special_tokens=False)
    whole = fed(parsing, parsing.new_choice(), ids, Transcript(), finished=True)
    for cut in range(len(ids)):
        first = fed(parsing, parsing.new_choice(), ids[:cut], Transcript())
        # Of the last piece the client may have a part: the rest was lost with the worker.
        for sent in {first, first[:-1]}:
            replay = parsing.replay(ids[:cut], sent)
            rest = fed(parsing, replay.parsed, ids[replay.keep:], replay.after,
                ids[:replay.keep], finished=True)
            begun = sent[:len(sent) - len(replay.again)]
            assert begun + rest == whole, (cut, sent, replay, rest, whole)
            assert rest.startswith(replay.again)
    parsed = parsing.new_choice()
    at_once = transcript_of(parsed, [parsed.feed(text, ids, finished=True)])
    assert at_once.replace(BETWEEN, "") == whole.replace(BETWEEN, ""), (at_once, whole)
    return whole

def said_of(text, tools, **how):
    parsing = parsing_of(tools, **how)
    ids = tokenizer.encode(text, add_special_tokens=False)
    return fed(parsing, parsing.new_choice(), ids, Transcript(), finished=True)

def refused(make):
    try:
        make()
    except (CannotServe, JobRejected) as error:
        return str(error)

def call(name="add", **arguments):
    return '<tool_call>\\n' + json.dumps({"name": name, "arguments": arguments}) + '\\n</tool_call>'

tools = Tools(json.dumps(ADD))
one_only = Tools(json.dumps(ADD), parallel=False)
strict = Tools(json.dumps(STRICT))
required = Tools(json.dumps(ADD), "required")
ARRAY = '[{"name": "add", "parameters": {"a": 1}}, {"name": "add", "parameters": {"a": 2}}]'
def home_of(parser):
    return sys.modules[type(parser).__module__].__file__

result = {
    "homes": [home_of(parsing_of(tools, **BOTH).new_choice()._reader._parser),
        home_of(parsing_of(tools, **BOTH).new_choice()._thoughts._parser)],
    "call": read("So: " + call(a=12), tools, **CALLS),
    "calls": read(call(a=1) + "\\n" + call(a=2), tools, **CALLS),
    "no arguments": read(call(), tools, **CALLS),
    "only one": read(call(a=1) + "\\n" + call(a=2), one_only, **CALLS),
    "ends": said_of("So: " + call(a=12) + "<|im_end|>", tools, **CALLS),
    "no call": read("2 < 3, says <tool_c", tools, **CALLS),
    "half a call": read('<tool_call>\\n{"na', tools, **CALLS),
    "other tool": said_of("So: " + call("sub", a=1), tools, **CALLS),
    "thought": read("<think>I see\\u20ac.</think>Gr\\u00fc\\u00dfe \\U0001f600!", **THOUGHTS),
    "begun": read("I see.</think>Yes.", prompt="hi<think>", **THOUGHTS),
    "cut off": read("I see, a <", prompt="hi<think>", **THOUGHTS),
    "ended": read("Yes.", prompt="<think></think>", **THOUGHTS),
    "neither": read("Yes, a <", **THOUGHTS),
    "continued": read("ee.</think>Yes.", said="<think>I s", prompt="<think>I s",
        template=Template(continue_final_message=True), **THOUGHTS),
    "thought and call": read("I see.</think>" + call(a=1), tools, prompt="hi<think>", **BOTH),
    "named": read('{"a": 3}', Tools(json.dumps(ADD), "named", "add")),
    "required": read(ARRAY, required),
    "required, one": read(ARRAY, Tools(json.dumps(ADD), "required", parallel=False)),
    "required, thinks": read(ARRAY, required, **BOTH),
    "forced": json.loads(parsing_of(required).guided.value),
    "forced, named": json.loads(parsing_of(Tools(json.dumps(ADD), "named", "add")).guided.value),
    "guided": [parsing.is_constrained for parsing in [
        parsing_of(tools, **CALLS), parsing_of(required), parsing_of(strict, **CALLS),
        parsing_of(None, guided=Guided("json", "{}"), **THOUGHTS)]],
    "plan": parsing_of(strict, takes_tags=False, **CALLS).is_constrained,
    "tag": json.loads(parsing_of(strict, **CALLS).guided.value),
    "json": read('{"a": 1}', guided=Guided("json", "{}"), **THOUGHTS),
    "thinks first": [parsing_of(required, prompt=prompt, **BOTH).thinks_first
        for prompt in ("hi", "hi<think>")],
    "plain": [parsing_of() is None, parsing_of(None, **CALLS) is None,
        parsing_of(Tools(json.dumps(ADD), "none"), **CALLS) is None],
    "no parser": refused(lambda: parsing_of(tools)),
    "odd tools": refused(lambda: parsing_of(Tools('[{"type": "function"}]'), **CALLS)),
    "unknown": [refused(lambda: parsers_of(tool_parser="nonesuch")),
        refused(lambda: parsers_of(reasoning_parser="nonesuch"))],
}
print(json.dumps(result))
"""
STANDINS = ROOT / "tests" / "standins"
SGLANG: dict[str, Any] = {
    "engine": "cuda-sglang",
    "paths": [str(STANDINS / "sglang")],
    "variables": {},
    "parsers": {"tool_parser": "qwen", "reasoning_parser": "deepseek-v3"},
}


def trtllm(release: str) -> dict[str, Any]:
    return {
        "engine": "cuda-trt",
        "paths": [str(STANDINS / "tensorrt_llm")],
        "variables": {"TENSORRT_LLM_STANDIN": release},
        "parsers": {"tool_parser": "qwen3", "reasoning_parser": "qwen3"},
    }


LIBRARIES = {
    "sglang": SGLANG,
    "trt-1.2.1": trtllm("1.2.1"),
    "trt-1.4.0rc1": trtllm("1.4.0rc1"),
}
FIRST, SECOND = '\x000 add\x00{"a": 1}', '\x001 add\x00{"a": 2}'
EXPECTED: dict[str, str] = {
    "call": 'So: \x000 add\x00{"a": 12}',
    "no arguments": "\x000 add\x00{}",
    "ends": 'So: \x000 add\x00{"a": 12}',
    "no call": "2 < 3, says <tool_c",
    "half a call": '<tool_call>\n{"na',
    "thought": "\x00reasoning \x00I see€.\x00text \x00Grüße 😀!",
    "begun": "\x00reasoning \x00I see.\x00text \x00Yes.",
    "cut off": "\x00reasoning \x00I see, a <",
    "ended": "Yes.",
    "neither": "Yes, a <",
    "continued": "\x00reasoning \x00ee.\x00text \x00Yes.",
    "thought and call": "\x00reasoning \x00I see." + FIRST,
    "named": '\x000 add\x00{"a": 3}',
    "required": FIRST + SECOND,
    "required, one": FIRST,
    "required, thinks": FIRST + SECOND,
    "json": '{"a": 1}',
}


@pytest.mark.vllm
@pytest.mark.parametrize("name", LIBRARIES)
def test_parsers_tell_calls_and_thoughts_from_text_wherever_an_answer_is_cut(
    name: str, vllm_process: VllmProcess
) -> None:
    said = json.loads(vllm_process.run(SCRIPT, LIBRARIES[name]).splitlines()[-1])
    check(said, LIBRARIES[name]["engine"])


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_sglangs_own_parsers_do_the_same(sglang_parsers: Path, vllm_process: VllmProcess) -> None:
    own = {"EW_TEST_SGLANG_PARSERS": str(sglang_parsers)}
    printed = vllm_process.run(SCRIPT, SGLANG | {"variables": own})
    said = json.loads(printed.splitlines()[-1])
    assert all(home.startswith(str(sglang_parsers)) for home in said["homes"])
    check(said, "cuda-sglang")


def check(said: dict[str, Any], engine: str) -> None:
    assert {name: said[name] for name in EXPECTED} == EXPECTED
    between = "\x00text \x00\n"
    assert said["calls"].replace(between, "") == FIRST + SECOND
    assert said["only one"].replace(between, "") == FIRST
    # SGLang's drop the beginning of such a call, TensorRT-LLM's take it.
    is_called = said["other tool"] == 'So: \x000 sub\x00{"a": 1}'
    assert is_called == (engine == "cuda-trt")
    assert said["other tool"].startswith("So: ")
    assert said["forced"]["minItems"] == 1
    assert said["forced, named"]["properties"] == {"a": {"type": "integer"}}
    assert said["guided"] == [False, True, True, True]
    assert said["plan"] == (engine == "cuda-sglang")
    assert '{"a": {"type": "integer"}}' in json.dumps(said["tag"])
    assert said["thinks first"] == [False, engine == "cuda-sglang"]
    assert said["plain"] == [True, True, True]
    assert "its entry names no `tool_parser`" in said["no parser"]
    assert "function" in said["odd tools"]
    assert all("nonesuch" in message for message in said["unknown"])


@pytest.mark.vllm
def test_a_release_without_parsers_of_calls_says_so(vllm_process: VllmProcess) -> None:
    script = SCRIPT[: SCRIPT.index("BOTH =")] + (
        "from workers.engine import CannotServe\n"
        "try:\n    parsers_of(tool_parser='qwen3')\n"
        "except CannotServe as error:\n    print(json.dumps(str(error)))\n"
    )
    assert "1.2 has" in vllm_process.run(script, trtllm("1.1.0"))
