"""Calls in the markup of several model families, read by SGLang's own parsers: the same is said of
an answer however many of its tokens come at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from contract.paths import ROOT
from tests.engines.vllm_process import VllmProcess

STANDIN = ROOT / "tests" / "standins" / "sglang"
SCRIPT = """
import json, os, re, sys
given = json.load(sys.stdin)
os.environ["EW_TEST_SGLANG_PARSERS"] = given["home"]
sys.path.insert(0, given["standin"])
from contract.config.recipes import ChosenParsers
from workers.engines.sglang.parsing import SglangParsers
from workers.engines.shared.parsing.text import ParsedText
from workers.answers.transcript import Transcript
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("deploy/demo-model")
# Marks are tokens of their own, as they are to the models that write them.
TOKEN = re.compile(r"\\s(?=[<\\[])|</?[|\\uff5c]?[\\w\\u2581:|\\uff5c. ]+[|\\uff5c]?>"
    r"| ?[A-Za-z]+|\\d| ?[^\\sA-Za-z\\d]|\\s")

def said(parser, text, size):
    reasoning = parser if parser == "gpt-oss" else None
    library = SglangParsers(ChosenParsers(parser, reasoning), tokenizer)
    thoughts = library.thoughts({}, begun=None) if reasoning else None
    calls = library.calls(json.dumps(given["tools"]))
    tokens = TOKEN.findall(text)
    assert "".join(tokens) == text
    parsed, transcript = ParsedText(thoughts, calls, decode_one=tokens.__getitem__), Transcript()
    pieces = []
    for first in range(0, len(tokens), size):
        ids = list(range(len(tokens)))[first:first + size]
        new = "".join(tokens[first:first + size])
        pieces += parsed.feed(new, ids, finished=first + size >= len(tokens))
    return "".join(transcript.piece(*piece) for piece in pieces)

print(json.dumps({parser: [said(parser, text, size) for size in (1, 3, 7, 10_000)]
    for parser, text in given["texts"].items()}))
"""
TOOLS: Final = [
    {"type": "function", "function": {"name": name, "parameters": {"properties": properties}}}
    for name, properties in (
        ("add", {"a": {"type": "integer"}, "s": {"type": "string"}}),
        ("sub", {"a": {"type": "integer"}}),
    )
]
_ADD, _SUB = '{"a": 1, "s": "x y"}', '{"a": 2}'
_ADDS, _SUBS = (
    f'{{"name": "add", "arguments": {_ADD}}}',
    f'{{"name": "sub", "arguments": {_SUB}}}',
)


def mark(words: str) -> str:
    """A mark of DeepSeek's."""
    return f"<\uff5c{words.replace(' ', chr(0x2581))}\uff5c>"


_V31 = f"{mark('tool call begin')}{{}}{mark('tool sep')}{{}}{mark('tool call end')}"
_KIMI = "<|tool_call_begin|>functions.{}:{}<|tool_call_argument_begin|>{}<|tool_call_end|>"
TEXTS: Final = {
    "qwen": f"Hi. <tool_call>\n{_ADDS}\n</tool_call>\n<tool_call>\n{_SUBS}\n</tool_call>",
    "hermes": f"Hi. <tool_call>{_ADDS}</tool_call><tool_call>{_SUBS}</tool_call>",
    "llama3": f"<|python_tag|>{_ADDS};{_SUBS}".replace("arguments", "parameters"),
    "pythonic": '[add(a=1, s="x y"), sub(a=2)]',
    "qwen3_coder": "Hi. <tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=s>"
    "\nx y\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=sub>\n<parameter=a>\n2"
    "\n</parameter>\n</function>\n</tool_call>",
    "glm45": "Hi. <tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n"
    "<arg_key>s</arg_key>\n<arg_value>x y</arg_value>\n</tool_call><tool_call>sub\n"
    "<arg_key>a</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
    "deepseekv31": f"Hi. {mark('tool calls begin')}{_V31.format('add', _ADD)}"
    f"{_V31.format('sub', _SUB)}{mark('tool calls end')}",
    "kimi_k2": f"Hi. <|tool_calls_section_begin|>{_KIMI.format('add', 0, _ADD)}"
    f"{_KIMI.format('sub', 1, _SUB)}<|tool_calls_section_end|>",
    "gpt-oss": "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary "
    f"to=functions.add<|constrain|>json<|message|>{_ADD}<|call|>",
}
_CALLS = f"\0{'0 add'}\0{_ADD}\0{'1 sub'}\0{_SUB}"
EXPECTED: Final = dict.fromkeys(TEXTS, f"Hi. {_CALLS}") | {
    "llama3": _CALLS,
    "pythonic": _CALLS,
    "gpt-oss": f"\0reasoning \0Hm.\0{'0 add'}\0{_ADD}",
}


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_calls_are_read_however_many_tokens_come_at_once(
    sglang_parsers: Path, vllm_process: VllmProcess
) -> None:
    given = {"home": str(sglang_parsers), "standin": str(STANDIN), "tools": TOOLS, "texts": TEXTS}
    found: dict[str, Any] = json.loads(vllm_process.run(SCRIPT, given).splitlines()[-1])
    between = "\0text \0\n"
    for parser, answers in found.items():
        assert {each.replace(between, "") for each in answers} == {EXPECTED[parser]}, parser
