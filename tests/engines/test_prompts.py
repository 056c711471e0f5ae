"""How a chat becomes a prompt."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from contract.asked import Template, ToolCall, Tools
from contract.messages import ChatMessage, Job, Sampling
from contract.paths import ROOT
from tests.engines.contract.engines import MODEL_DIR, vllm_python
from tests.engines.vllm_process import VllmProcess
from workers.engine import JobRejected
from workers.engines.prompts import Prompts


class Tokenizer:
    """Each turn becomes its role and its words; a token is a character."""

    def __init__(self, chat_template: Any) -> None:
        self.chat_template = chat_template

    def apply_chat_template(self, turns: list[dict[str, str]], **_: Any) -> list[int]:
        if turns[-1]["role"] != "user":
            raise ValueError("the last turn is the user's")
        return list("".join(f"[{turn['role']}]{turn['content']}" for turn in turns).encode())


async def prompt_of(tokenizer: Any, *turns: tuple[str, str]) -> str:
    messages = tuple(ChatMessage(role, content) for role, content in turns)  # type: ignore[arg-type]
    job = Job("j", "m", Sampling(), messages=messages)
    return bytes(await Prompts(tokenizer, 1_000, 1_000).token_ids(job)).decode()


@pytest.mark.parametrize("template", ["{{ messages }}", {"default": "x", "tools": "y"}])
async def test_a_developer_is_the_system_where_the_template_knows_none(template: Any) -> None:
    tokenizer = Tokenizer(template)
    assert await prompt_of(tokenizer, ("developer", "be"), ("user", "hi")) == "[system]be[user]hi"
    several = (("system", "a"), ("user", "b"), ("developer", "c"), ("developer", ""), ("user", "d"))
    assert await prompt_of(tokenizer, *several) == "[system]a\n\nc[user]b[user]d"
    only_system = (("user", "a"), ("system", "b"), ("user", "c"))
    assert await prompt_of(tokenizer, *only_system) == "[user]a[system]b[user]c"


@pytest.mark.parametrize("template", ["role == 'developer'", {"default": 'x "developer"'}])
async def test_a_template_that_knows_developers_gets_them(template: Any) -> None:
    prompt = await prompt_of(Tokenizer(template), ("developer", "be"), ("user", "hi"))
    assert prompt == "[developer]be[user]hi"


class Beginning(Tokenizer):
    """Begins what it encodes with a token of its own."""

    def apply_chat_template(self, turns: list[dict[str, str]], **more: Any) -> Any:
        ids = super().apply_chat_template(turns, **more)
        return ids if more["tokenize"] else bytes(ids).decode()

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [*(b"^" if add_special_tokens else b""), *text.encode()]


async def test_a_chat_may_begin_with_the_tokens_that_a_plain_prompt_has() -> None:
    tokenizer = Beginning("{{ messages }}")
    messages = (ChatMessage("user", "hi"),)
    for asked, prompt in ((True, "^[user]hi"), (None, "[user]hi")):
        job = Job("j", "m", Sampling(), messages=messages, add_special_tokens=asked)
        assert bytes(await Prompts(tokenizer, 99, 99).token_ids(job)).decode() == prompt


class SystemFirst(Tokenizer):
    """Its template takes a message of the system in the first place only, as Qwen3's does."""

    def apply_chat_template(self, turns: list[dict[str, Any]], **more: Any) -> list[int]:
        if any(turn["role"] == "system" for turn in turns[1:]):
            raise ValueError("System message must be at the beginning.")
        return super().apply_chat_template(turns, **more)


async def test_words_of_the_system_move_to_the_front_only_where_that_is_asked_and_needed() -> None:
    said = (("system", "a"), ("user", "b"), ("system", "c"), ("user", "d"))
    messages = tuple(ChatMessage(role, content) for role, content in said)
    may_move = Job("j", "m", Sampling(), messages=messages, template=Template(system_first=True))
    for tokenizer, prompt in (
        (Tokenizer("x"), "[system]a[user]b[system]c[user]d"),
        (SystemFirst("x"), "[system]a\n\nc[user]b[user]d"),
    ):
        written = await Prompts(tokenizer, 1_000, 1_000).token_ids(may_move)
        assert bytes(written).decode() == prompt
    with pytest.raises(JobRejected, match="at the beginning"):
        await prompt_of(SystemFirst("x"), *said)


async def test_a_prompt_is_cut_at_its_beginning_where_the_request_says_so() -> None:
    prompts = Prompts(Tokenizer("x"), 6, 1_000)
    for length, left in ((2, 2), (9, 6), (-1, 6)):
        job = Job("j", "m", Sampling(), prompt_ids=tuple(range(9)), truncate_prompt_tokens=length)
        assert await prompts.token_ids(job) == list(range(9))[-left:]
        first = replace(job, keeps_beginning=True)
        assert await prompts.token_ids(first) == list(range(9))[:left]
    with pytest.raises(JobRejected, match="the prompt has 9 tokens"):
        await prompts.token_ids(Job("j", "m", Sampling(), prompt_ids=tuple(range(9))))


async def test_templates_get_calls_tools_and_arguments() -> None:
    class Seeing(Tokenizer):
        def apply_chat_template(self, turns: list[dict[str, Any]], **given: Any) -> list[int]:
            self.seen = (turns, given)
            return [1]

    tokenizer = Seeing("x")
    calls = (ToolCall("c1", "add", '{"a": 1}'), ToolCall("c2", "add", "not JSON"))
    messages = (
        ChatMessage("assistant", "", tool_calls=calls, reasoning="Hm."),
        ChatMessage("tool", "2", name="add", tool_call_id="c1"),
    )
    tools, template = Tools('[{"type": "function"}]'), Template('{"date": "today"}', False, True)
    job = Job("j", "m", Sampling(), messages=messages, tools=tools, template=template)
    assert await Prompts(tokenizer, 9, 9).token_ids(job) == [1]
    (said, returned), given = tokenizer.seen
    assert [call["function"]["arguments"] for call in said["tool_calls"]] == [{"a": 1}, {}]
    assert said["reasoning"] == said["reasoning_content"] == "Hm."
    assert (returned["name"], returned["tool_call_id"]) == ("add", "c1")
    assert given["tools"] == [{"type": "function"}]
    assert given["date"] == "today"
    assert given["continue_final_message"] is True
    assert given["add_generation_prompt"] is False


async def test_what_the_template_or_the_model_does_not_take_is_an_invalid_request() -> None:
    with pytest.raises(JobRejected, match="refused the messages: the last turn is the user's"):
        await prompt_of(Tokenizer("x"), ("assistant", "hi"))
    with pytest.raises(JobRejected, match="has no chat template; send a plain prompt"):
        await prompt_of(Tokenizer(None), ("user", "hi"))


async def test_a_tokenizer_that_writes_chats_in_code_needs_no_template() -> None:
    tokenizer = Tokenizer("")
    del tokenizer.chat_template
    assert await prompt_of(tokenizer, ("user", "hi")) == "[user]hi"


SCRIPT = """
import asyncio, json, sys
from vllm.config import ModelConfig, VllmConfig
from vllm.renderers import renderer_from_config
from contract.messages import ChatMessage, Job, Sampling
from workers.engines.prompts import Prompts
from workers.engines.vllm.chats import chat_writer
messages = (ChatMessage("developer", "be"), ChatMessage("user", "hi"))
job = Job("j", "m", Sampling(), messages=messages)
said = {}
for mode, path in json.load(sys.stdin).items():
    model = ModelConfig(model=path, tokenizer=path, tokenizer_mode=mode)
    renderer = renderer_from_config(VllmConfig(model_config=model))
    prompts = Prompts(renderer.tokenizer, 256, 256, chat_writer(renderer))
    said[mode] = renderer.tokenizer.decode(asyncio.run(prompts.token_ids(job)))
print(json.dumps(said))
"""


def write_mistral_model(path: Path) -> Path:
    """Return the demo model with a tokenizer of mistral_common's: a token is a byte."""
    path.mkdir()
    (path / "config.json").write_bytes((MODEL_DIR / "config.json").read_bytes())
    config = {
        "pattern": r"[^\n]+|\n",
        "num_vocab_tokens": 256,
        "default_vocab_size": 1256,
        "default_num_special_tokens": 1000,
        "version": "v3",
    }
    vocab = [
        {"rank": byte, "token_bytes": base64.b64encode(bytes([byte])).decode(), "token_str": None}
        for byte in range(256)
    ]
    (path / "tekken.json").write_text(json.dumps({"config": config, "vocab": vocab}))
    return path


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_models_without_a_template_chat_as_vllm_writes_their_chats(tmp_path: Path) -> None:
    models = {
        "hf": str(MODEL_DIR),
        "mistral": str(write_mistral_model(tmp_path / "mistral")),
        "deepseek_v32": str(MODEL_DIR),
    }
    done = subprocess.run(
        [vllm_python(), "-c", SCRIPT],
        input=json.dumps(models),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["hf"].startswith("<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\nhi")
    assert said["mistral"] == "<s>[INST]be\n\nhi[/INST]"
    assert said["deepseek_v32"].endswith("<｜User｜>hi<｜Assistant｜></think>")  # noqa: RUF001


DIRECTLY = """
import copy, json
from transformers import AutoTokenizer
from contract.messages import ChatMessage, Job, Sampling
from workers.engines.prompts import Prompts
from workers.engines.shared import encoding

tokenizer = AutoTokenizer.from_pretrained(json.load(sys.stdin))
TEXT = "äöü 漢字 🎉 <|im_end|>  two\\n\\n"
chat = (ChatMessage("system", "s"), ChatMessage("user", TEXT))
jobs = [
    Job("j", "m", Sampling(), add_special_tokens=special, **asked)
    for asked in ({"prompt": TEXT}, {"messages": chat})
    for special in (None, True, False)
]

def ids(tokenizer):
    prompts = Prompts(tokenizer, 999, 999)
    return [prompts._encode(job) for job in jobs], prompts._encode_text, prompts._encode_chat

def ways(tokenizer):
    return [way is not None for way in ids(tokenizer)[1:]]

class Adds(type(tokenizer)):
    def encode(self, *args, **more):
        return [7, *super().encode(*args, **more)]

class Writes(type(tokenizer)):
    def apply_chat_template(self, *args, tokenize=True, **more):
        written = super().apply_chat_template(*args, tokenize=tokenize, **more)
        return [7, *written] if tokenize else written

direct = ids(tokenizer)
told = {"direct": [direct[0], ways(tokenizer)]}
for kind in (Adds, Writes):
    tokenizer.__class__ = kind
    told[kind.__name__] = ways(tokenizer)
    tokenizer.__class__ = kind.__mro__[1]

class Apart(type(tokenizer)):
    def encode(self, *args, **more):
        return untouched.encode(*args, **more)

untouched = copy.deepcopy(tokenizer)
tokenizer.__class__ = Apart
tokenizer._tokenizer.enable_truncation(300)
prompts = Prompts(tokenizer, 9999, 9999)
told["cut"] = [len(prompts._encode(Job("j", "m", Sampling(), prompt="x " * 400)))]
tokenizer._tokenizer.no_truncation()
told["cut"].append(len(prompts._encode(Job("j", "m", Sampling(), prompt="x " * 400))))

encoding.FREE_FROM_CORES = 1
together = Prompts(tokenizer, 9999, 9999)
texts = [TEXT, "", "a", "a", *encoding._PROBES, "x " * 900]
odd = [
    Job("j", "m", Sampling(), prompt=text, add_special_tokens=special)
    for text in texts
    for special in (None, True, False)
]
together.read_ahead(odd)
alone, together._encode_text = together._encode_text, "not asked"
told["together"] = [together._encode(job) for job in odd]
told["alone"] = [alone(job.prompt, job.add_special_tokens is not False) for job in odd]
together._encode_text = alone
broken = Job("j", "m", Sampling(), prompt=chr(0xD800))
together.read_ahead([*odd, broken])
told["beside a broken one"] = [together._encode(job) for job in odd]
tokenizer._tokenizer.enable_truncation(300)
together.read_ahead(odd)
told["set to cut"] = [together._encode(job) for job in odd]
tokenizer._tokenizer.no_truncation()
encoding.FREE_FROM_CORES = 10_000
told["few cores"] = Prompts(tokenizer, 999, 999)._ahead is None
encoding.direct_encoder.__code__ = (lambda tokenizer: None).__code__
told["own"] = [ids(tokenizer)[0], ways(tokenizer)]
print(json.dumps(told))
"""


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_the_tokenizer_below_is_asked_only_if_it_says_the_same(vllm_process: VllmProcess) -> None:
    told = json.loads(vllm_process.run("import sys\n" + DIRECTLY, str(MODEL_DIR)))
    (direct, direct_ways), (own, own_ways) = told["direct"], told["own"]
    assert direct == own
    assert (direct_ways, own_ways) == ([True, True], [False, False])
    assert told["Adds"] == [False, False]
    assert told["Writes"] == [True, False]
    assert told["cut"][0] == told["cut"][1] >= 400
    for how in ("together", "beside a broken one", "set to cut"):
        assert told[how] == told["alone"], how
    assert told["few cores"]
