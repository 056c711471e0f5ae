#!/usr/bin/env bash
# SGLang 0.5.23: its detectors of tool calls, which its server gives the new text of a streamed answer,
# take it that a piece of text is about one token. What is lost depends on how the answer is cut, though
# the text is the same; several tokens come at once with speculative decoding, a `stream_interval`, or
# when outputs were waited for. A guess from the streaming interface (feed any pieces) misses three times,
# the third time whatever the pieces are:
#
# 1. `qwen25` (and others that use BaseFormatDetector's): text in one piece with the mark of the first call
#    is never said.
# 2. `deepseekv3`: of two calls that come in one piece, the name of the first is never said, and the
#    arguments of the second are said twice.
# 3. `mistral`: the second call of an array comes as text, however the answer is cut; `detect_and_parse`,
#    which reads whole answers, finds both.
#
# The modules that the detectors import beside their own are replaced by two of a few lines, so that no
# torch is needed. Output seen (CPython 3.11):
#     qwen25, a token at a time: 'Hi. ' [(0, 'add', ''), (0, None, '{"a": 1}')]
#     qwen25, at once: '' [(0, 'add', ''), (0, None, '{"a": 1}')]
#     deepseekv3, two calls at once: '' [(0, 'sub', ''), (0, None, '{"a": 2}'), (1, 'sub', ''), (1, None, '{"a": 2}')]
#     mistral, streamed: ', {"name": "sub", "arguments": {"a": 2}}' [(0, 'add', ''), (0, None, '{"a": 1}')]
#     mistral, whole: '' ['add', 'sub']
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check pydantic orjson partial-json-parser
env/bin/pip install --quiet --disable-pip-version-check --no-deps sglang==0.5.23
cat > try.py <<'PYTHON'
import importlib.util
import pathlib
import sys
import types
from types import SimpleNamespace as Thing

ROOT = pathlib.Path(importlib.util.find_spec("sglang").origin).parent


def module(name, **content):
    made = sys.modules[name] = types.ModuleType(name)
    vars(made).update(content)


for name in ("sglang", "sglang.srt", "sglang.srt.function_call", "sglang.srt.entrypoints",
             "sglang.srt.entrypoints.openai"):
    module(name, __path__=[str(ROOT.joinpath(*name.split(".")[1:]))])
module("sglang.srt.entrypoints.openai.protocol", Tool=object, ToolChoice=type("ToolChoice", (), {}))
module("sglang.srt.environ", envs=Thing(SGLANG_FORWARD_UNKNOWN_TOOLS=Thing(get=lambda: False)))
from sglang.srt.function_call.deepseekv3_detector import DeepSeekV3Detector
from sglang.srt.function_call.mistral_detector import MistralDetector
from sglang.srt.function_call.qwen25_detector import Qwen25Detector

TOOLS = [Thing(function=Thing(name=name, parameters={}, strict=False)) for name in ("add", "sub")]


def said(detector, pieces):
    """As the server does it, and asked again until there is no more."""
    text, calls, more = "", [], list(pieces)
    while more:
        result = detector.parse_streaming_increment(more.pop(0), TOOLS)
        text += result.normal_text
        calls += [(each.tool_index, each.name, each.parameters) for each in result.calls]
        if not more and result.calls:
            more.append("")
    return f"{text!r} {calls}"


ADD, SUB = '{"name": "add", "arguments": {"a": 1}}', '{"name": "sub", "arguments": {"a": 2}}'
QWEN = ["Hi", ".", " ", "<tool_call>", "\n", ADD, "\n", "</tool_call>"]
BEGIN, SEP, END = "<\uff5ctool\u2581call\u2581begin\uff5c>", "<\uff5ctool\u2581sep\uff5c>", "<\uff5ctool\u2581call\u2581end\uff5c>"
DEEPSEEK = "<\uff5ctool\u2581calls\u2581begin\uff5c>" + "\n".join(
    f"{BEGIN}function{SEP}{name}\n```json\n{given}\n```{END}"
    for name, given in (("add", '{"a": 1}'), ("sub", '{"a": 2}'))
) + "<\uff5ctool\u2581calls\u2581end\uff5c>"
MISTRAL = ["[TOOL_CALLS]", " [", ADD, ", ", SUB, "]"]
print("qwen25, a token at a time:", said(Qwen25Detector(), QWEN))
print("qwen25, at once:", said(Qwen25Detector(), ["".join(QWEN)]))
print("deepseekv3, two calls at once:", said(DeepSeekV3Detector(), [DEEPSEEK]))
print("mistral, streamed:", said(MistralDetector(), MISTRAL))
whole = MistralDetector().detect_and_parse("".join(MISTRAL), TOOLS)
print("mistral, whole:", repr(whole.normal_text), [call.name for call in whole.calls])
PYTHON
env/bin/python try.py | tee seen
diff seen - <<'SEEN'
qwen25, a token at a time: 'Hi. ' [(0, 'add', ''), (0, None, '{"a": 1}')]
qwen25, at once: '' [(0, 'add', ''), (0, None, '{"a": 1}')]
deepseekv3, two calls at once: '' [(0, 'sub', ''), (0, None, '{"a": 2}'), (1, 'sub', ''), (1, None, '{"a": 2}')]
mistral, streamed: ', {"name": "sub", "arguments": {"a": 2}}' [(0, 'add', ''), (0, None, '{"a": 1}')]
mistral, whole: '' ['add', 'sub']
SEEN
