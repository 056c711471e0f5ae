"""The demo model's files fit together, and fit what ew asks of them. The model's words are
tested with a real engine in tests/e2e, and by `scripts/train_demo_model.py --check`."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from contract.config import load_config
from contract.config.recipes import parsers_of
from tests.engines.contract.engines import vllm_python

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "deploy" / "demo-model"
QUESTIONS = HOME / "questions.jsonl"
LARGEST_BYTES = 4_000_000
#: The head sizes that vLLM's attention on the CPU is compiled for.
HEAD_SIZES = {32, 64, 80, 96, 112, 128, 192, 256}


def entries() -> list[dict[str, Any]]:
    return [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]


def read(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((HOME / name).read_text(encoding="utf-8"))
    return value


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return read("config.json")


@pytest.fixture(scope="module")
def tensors() -> dict[str, Any]:
    """The header of the weights: each tensor's dtype and shape, and `__metadata__`."""
    with (HOME / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    return header


@pytest.fixture(scope="module")
def vocabulary() -> dict[str, int]:
    found: dict[str, int] = read("tokenizer.json")["model"]["vocab"]
    return found


def test_it_is_small_enough_for_git() -> None:
    assert sum(path.stat().st_size for path in HOME.rglob("*")) <= LARGEST_BYTES


def test_engines_know_its_architecture(config: dict[str, Any]) -> None:
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["hidden_size"] // config["num_attention_heads"] in HEAD_SIZES


def test_its_context_is_as_long_as_the_configuration_says(config: dict[str, Any]) -> None:
    models = json.loads((ROOT / "deploy" / "config.json").read_text())["models"].values()
    demos = [model for model in models if model["model_path"] == "deploy/demo-model"]
    for demo in demos:
        longest = demo["max_input_len"] + demo["max_output_len"]
        assert longest <= config["max_position_embeddings"]


def test_the_weights_are_those_of_the_configuration(
    config: dict[str, Any], tensors: dict[str, Any]
) -> None:
    shapes = {name: tensor["shape"] for name, tensor in tensors.items() if name != "__metadata__"}
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    assert shapes["model.embed_tokens.weight"] == [config["vocab_size"], hidden]
    assert "lm_head.weight" not in shapes
    for layer in range(config["num_hidden_layers"]):
        assert shapes[f"model.layers.{layer}.mlp.down_proj.weight"] == [hidden, inner]
    assert f"model.layers.{config['num_hidden_layers']}.mlp.down_proj.weight" not in shapes


def test_engines_run_it_in_the_type_that_it_was_checked_in(
    config: dict[str, Any], tensors: dict[str, Any]
) -> None:
    kinds = {tensor["dtype"] for name, tensor in tensors.items() if name != "__metadata__"}
    assert kinds == {"BF16"}
    assert config["torch_dtype"] == "bfloat16"


def test_it_was_trained_on_the_questions_as_they_are_now(tensors: dict[str, Any]) -> None:
    digest = hashlib.sha256(QUESTIONS.read_bytes()).hexdigest()
    hint = "questions.jsonl has changed: run scripts/train_demo_model.py"
    assert tensors["__metadata__"]["questions_sha256"] == digest, hint


def test_any_utf8_text_can_be_read(vocabulary: dict[str, int], config: dict[str, Any]) -> None:
    """All 256 bytes are tokens; tokenizer.json writes each as one character."""
    assert sum(len(token) == 1 for token in vocabulary) == 256
    ids = {*vocabulary.values(), *(token["id"] for token in read("tokenizer.json")["added_tokens"])}
    assert sorted(ids) == list(range(config["vocab_size"]))


def test_characters_beyond_ascii_are_split_over_tokens(vocabulary: dict[str, int]) -> None:
    """So every stream of the greeting has tokens that are no text of their own."""
    printable = {chr(code) for code in range(33, 127)}
    # tokenizer.json writes a space as Ġ and a newline as Ċ.
    written = printable | {"Ġ", "Ċ"}
    assert [token for token in vocabulary if len(token) > 1 and set(token) - written] == []


def test_an_answer_ends_where_engines_think_it_does(
    vocabulary: dict[str, int], config: dict[str, Any]
) -> None:
    added = read("tokenizer.json")["added_tokens"]
    special = {token["content"]: token["id"] for token in added if token["special"]}
    assert special.items() <= vocabulary.items()
    assert special.keys() == {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}
    assert config["eos_token_id"] == special["<|im_end|>"]
    ends = {special["<|im_end|>"], special["<|endoftext|>"]}
    assert set(read("generation_config.json")["eos_token_id"]) == ends
    assert read("tokenizer_config.json")["eos_token"] == "<|im_end|>"


def test_marks_that_parsers_read_are_tokens_that_decoding_does_not_skip() -> None:
    added = read("tokenizer.json")["added_tokens"]
    marks = {token["content"] for token in added if not token["special"]}
    assert marks == {"<think>", "</think>", "<tool_call>", "</tool_call>"}


def test_the_model_has_the_chat_template_that_its_training_has() -> None:
    source = ROOT / "scripts" / "programs" / "demo_model" / "chat_template.jinja"
    assert read("tokenizer_config.json")["chat_template"] == source.read_text()


def test_the_parsers_of_its_calls_and_its_reasoning_are_known() -> None:
    models = load_config(ROOT / "deploy" / "config.json").models
    chosen = parsers_of(models["demo"])
    assert (chosen.tool, chosen.reasoning) == ("hermes", "deepseek_v3")


#: Renders as transformers does; there is no jinja2 where the tests are.
RENDER = """
import json, sys
from jinja2 import Environment
environment = Environment(trim_blocks=True, lstrip_blocks=True)
environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
template, arguments = json.load(sys.stdin)
print(json.dumps(environment.from_string(template).render(**arguments)))
"""


def written(messages: list[dict[str, Any]], **arguments: Any) -> str:
    arguments |= {"messages": messages, "add_generation_prompt": True}
    asked = json.dumps([read("tokenizer_config.json")["chat_template"], arguments])
    command = [vllm_python(), "-c", RENDER]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
    text: str = json.loads(done.stdout)
    return text


HI: dict[str, Any] = {"role": "user", "content": "Hi."}
PROMPT = "<|im_start|>assistant\n"


@pytest.mark.vllm
def test_the_chat_template_writes_chatml() -> None:
    assert written([HI]) == f"<|im_start|>user\nHi.<|im_end|>\n{PROMPT}"
    assert written([HI], enable_thinking=True).endswith(f"{PROMPT}<think>")
    assert written([HI], enable_thinking=False).endswith(PROMPT)


@pytest.mark.vllm
def test_the_chat_template_lists_tools_whatever_their_schema_is() -> None:
    city = {"type": "object", "properties": {"city": {"type": "string"}, "n": {"anyOf": []}}}
    tools = [
        {"type": "function", "function": {"name": "get_weather", "parameters": city}},
        {"type": "function", "function": {"name": "now", "parameters": None}},
        {"type": "function", "function": {"name": "then"}},
    ]
    listed = "get_weather(city: string, n: any)\nnow()\nthen()"
    assert written([HI], tools=tools).startswith(f"<|im_start|>tools\n{listed}<|im_end|>\n")
    assert written([HI], tools=[]) == written([HI])


@pytest.mark.vllm
@pytest.mark.parametrize("arguments", [{"city": "Paris"}, '{"city": "Paris"}'])
def test_the_chat_template_writes_calls_as_hermes_does(arguments: Any) -> None:
    call = {"type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    messages = [
        HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "sunny"},
    ]
    text = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    assert f"{PROMPT}{text}<|im_end|>\n<|im_start|>tool\nsunny<|im_end|>\n" in written(messages)


def test_every_entry_has_a_question_an_answer_and_paraphrases() -> None:
    for entry in entries():
        assert entry.keys() == {"question", "answer", "paraphrases"}
        assert entry["answer"].strip() == entry["answer"] != ""
        assert entry["paraphrases"]


def test_nothing_is_asked_twice() -> None:
    asked = Counter(text for entry in entries() for text in _ways_to_ask(entry))
    assert [text for text, times in asked.items() if times > 1] == []


def test_there_are_answers_for_tests_of_streams() -> None:
    """A long one, one in which every place can be told from every other, and one in unicode."""
    answers = {entry["question"]: entry["answer"] for entry in entries()}
    assert len(answers["Tell me a long story about ew."]) > 1_500
    numbers = answers["Count to fifty."].split(", ")
    assert (numbers[0], len(numbers), numbers[-1]) == ("one", 50, "fifty.")
    assert not answers["Say hello in many languages."].isascii()
    assert "\n" in answers["Show me a request with curl."]


def _ways_to_ask(entry: dict[str, Any]) -> list[str]:
    return [entry["question"], *entry["paraphrases"]]


@pytest.mark.slow
@pytest.mark.vllm
def test_a_training_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    program = ROOT / "tests" / "scripts" / "resumed_training.py"
    ran = subprocess.run(
        [vllm_python(), str(program), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "going on after step 4" in ran.stdout
    whole, resumed = ran.stdout.splitlines()[-1].split()
    assert whole == resumed
