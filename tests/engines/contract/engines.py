"""The engines that the contract holds for. To add one: an `EngineUnderTest`, put in ENGINES."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from contract.engines import declaration_of
from contract.paths import ROOT
from contract.process.ports import free_port
from tests.engines.gguf_model import write_gguf
from tests.standins import trtllm

MODEL_DIR: Final = Path(os.environ.get("EW_TEST_MODEL") or ROOT / "deploy" / "demo-model")
QUESTIONS: Final = ROOT / "deploy" / "demo-model" / "questions.jsonl"
#: Long enough for an answer that a worker is in the middle of; small enough to fill in a test.
CONTEXT: Final = 1024
SLOTS: Final = 64
#: Releases of TensorRT-LLM.
_WITHOUT_TOOL_PARSERS: Final = ("0.21.0", "1.0.0", "1.1.0")
_SGLANG_STANDIN: Final = ROOT / "tests" / "standins" / "sglang"
#: On a machine with a GPU, `cuda-vllm` with EW_TEST_VLLM_PYTHON of its environment.
_VLLM: Final = os.environ.get("EW_TEST_VLLM_ENGINE") or "cpu-vllm"
#: One that ends on a GPU may not be gone when the next begins.
_ROOM: Final[dict[str, Any]] = {} if _VLLM == "cpu-vllm" else {"gpu_memory_utilization": 0.2}
#: vLLM does everything but the model in Python, on cores that it shares.
_VLLM_START_S: Final = 240.0

#: The abilities of engines, as their declarations name them; a test that needs something runs where
#: it can be done.
ALL: Final = frozenset(
    {
        "model",  # runs the demo model: it answers questions, and has a tokenizer
        "tokens",  # knows the ids of its tokens
        "n",
        "seed",
        "min_tokens",
        "logprobs",
        "json",
        "compact json",  # without spaces, of which the demo model finds no end
        "regex",
        "choice",
        "grammar",
        "structural tags",  # constrains parts of a text, as xgrammar's structural tags say
        "prompts",  # tells how it read a prompt, and how probable that was
        "tokenizer",  # tells the tokens of a prompt, and the text of tokens
        "tools",  # can be made to call a tool
        "parsers",  # its library reads calls of the model's choice, and what it thinks
        "embeddings",
        "images",  # takes images, if its model does
        "sounds",  # takes sounds in chats, if its model does
        "speech",  # writes down speech, if its model does
        "adapters",  # has the adapter `other`, which changes what the model says
        "refused adapters",  # has the adapter `refused`, which its library cannot load
        "script",  # takes the mock's directives in prompts
        "quick start",  # a worker more costs next to nothing
    }
)


@dataclass(frozen=True)
class EngineUnderTest:
    """How to start a worker with an engine, for tests of what it can do; `only_for` those that
    need these abilities, if it names some, beside those that it `also` has. `lacks` what another
    model of the engine's can do.

    `model` answers the fields of `ModelConfig`; whatever it starts for them ends with the stack.
    """

    name: str
    engine: str
    model: Callable[[ExitStack, Path], dict[str, Any]]
    python: Callable[[], str] = lambda: sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)
    marks: tuple[pytest.MarkDecorator, ...] = ()
    start_timeout_s: float = 30.0
    max_model_len: int = CONTEXT
    only_for: frozenset[str] = frozenset()
    also: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()

    @property
    def can(self) -> frozenset[str]:
        if self.only_for:
            return self.only_for | self.also
        return (frozenset(declaration_of(self.engine).abilities) - self.lacks) | self.also


def _mock_model(_: ExitStack, __: Path) -> dict[str, Any]:
    script = {"tokens_per_s": 300, "default_tokens": 40}
    return {"engine": "mock", "model_path": "none", **_limits(), "engine_args": script}


def _vllm_model(_: ExitStack, directory: Path) -> dict[str, Any]:
    refused = write_adapter(directory / "refused", use_dora=True)
    return {
        "engine": _VLLM,
        "model_path": str(MODEL_DIR),
        "adapters": {"other": str(write_adapter(directory / "adapter")), "refused": str(refused)},
        "engine_args": VLLM_QUICK_START | {"structured_outputs_config": COMPACT_JSON},
        "tool_parser": "phi4_mini_json",
        **_limits(),
    }


def _pooling_model(_: ExitStack, __: Path) -> dict[str, Any]:
    """The demo model's last hidden state, for want of a model that is trained for it."""
    how = VLLM_QUICK_START | {"runner": "pooling", "convert": "embed"}
    return {
        "engine": _VLLM,
        "model_path": str(MODEL_DIR),
        "engine_args": how,
        **_limits(),
    }


def _vision_model(_: ExitStack, directory: Path) -> dict[str, Any]:
    """A tiny one with random weights, as no published one is as small."""
    return _written_model("vision_model.py", directory) | _limits()


def _audio_model(_: ExitStack, directory: Path) -> dict[str, Any]:
    return _written_model("audio_model.py", directory) | _limits()


def _speech_model(_: ExitStack, directory: Path) -> dict[str, Any]:
    return _written_model("speech_model.py", directory) | {"max_batch_size": SLOTS}


def _written_model(script: str, directory: Path) -> dict[str, Any]:
    path = directory / "model"
    program = ROOT / "tests" / "engines" / script
    subprocess.run([vllm_python(), program, MODEL_DIR, path], check=True, capture_output=True)
    return {"engine": _VLLM, "model_path": str(path), "engine_args": VLLM_QUICK_START}


def _openai_model(stack: ExitStack, directory: Path) -> dict[str, Any]:
    adapter = write_adapter(directory / "adapter")
    url = stack.enter_context(vllm_server(directory, _chat_options(adapter)))
    return _upstream_at(url)


def _upstream_images(stack: ExitStack, directory: Path) -> dict[str, Any]:
    path = _written_model("vision_model.py", directory)["model_path"]
    return _upstream_at(stack.enter_context(vllm_server(directory, {"model": path})))


def _upstream_pooling(stack: ExitStack, directory: Path) -> dict[str, Any]:
    options = {"runner": "pooling", "convert": "embed"}
    return _upstream_at(stack.enter_context(vllm_server(directory, options)))


def _upstream_at(url: str) -> dict[str, Any]:
    return {
        "engine": "openai",
        "model_path": "none",
        "base_url": url,
        "upstream_model": "upstream",
        "max_batch_size": SLOTS,
    }


def _llama_cpp_model(_: ExitStack, directory: Path) -> dict[str, Any]:
    file = write_gguf(MODEL_DIR, directory / "demo.gguf")
    return {"engine": "llama-cpp", "model_path": str(file), **_limits()}


def _trt_model(release: str) -> Callable[[ExitStack, Path], dict[str, Any]]:
    def model(_: ExitStack, directory: Path) -> dict[str, Any]:
        adapter = write_adapter(directory / "adapter")
        plan = release in trtllm.PLAN_RELEASES
        return trtllm.trt_model(
            vllm_python(),
            release,
            MODEL_DIR,
            directory,
            adapter=adapter,
            max_input_len=CONTEXT // 2,
            max_output_len=CONTEXT // 2,
            engine_args={"gather_generation_logits": True} if plan else {},
            reasoning_parser="qwen3",
            tool_parser="none" if release in _WITHOUT_TOOL_PARSERS else "qwen3",
        )

    return model


def _trt(release: str) -> EngineUnderTest:
    """TensorRT-LLM as the stand-in in tests/standins plays it."""
    return EngineUnderTest(
        f"trt-{release}",
        "cuda-trt",
        _trt_model(release),
        python=vllm_python,
        environment=trtllm.environment(release),
        marks=(pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(2 * _VLLM_START_S)),
        start_timeout_s=_VLLM_START_S,
        lacks=frozenset({"parsers"} if release in _WITHOUT_TOOL_PARSERS else ()),
    )


def _sglang_model(_: ExitStack, directory: Path) -> dict[str, Any]:
    refused = write_adapter(directory / "refused", use_rslora=True)
    return {
        "engine": "cuda-sglang",
        "model_path": str(MODEL_DIR),
        "adapters": {"other": str(write_adapter(directory / "adapter")), "refused": str(refused)},
        **_limits(),
    }


def _sglang_pooling_model(_: ExitStack, __: Path) -> dict[str, Any]:
    return {
        "engine": "cuda-sglang",
        "model_path": str(MODEL_DIR),
        "engine_args": {"is_embedding": True},
        **_limits(),
    }


def _sglang_parsing_model(stack: ExitStack, directory: Path) -> dict[str, Any]:
    """The same, with SGLang's own parsers."""
    from tests.engines.sglang_parsers import install_parsers

    variables = stack.enter_context(pytest.MonkeyPatch.context())
    home = install_parsers(directory / "parsers")
    variables.setenv("EW_TEST_SGLANG_PARSERS", str(home))
    return _sglang_model(stack, directory)


def vllm_python() -> str:
    """The python of vLLM's environment; skips the test if there is none."""
    return os.environ.get("EW_TEST_VLLM_PYTHON") or _python_of(_VLLM)


def _python_of(engine: str) -> str:
    from orchestrator.environments.environment import find_environment

    environment = find_environment(f"ew-{engine}")
    if environment is None:
        pytest.skip(f"no {engine} environment: ./ew setup --engine {engine}")
    return str(environment.python)


#: No compilation, and no third process: much less than a start costs otherwise.
VLLM_QUICK_START: Final = {"enforce_eager": True, "distributed_executor_backend": "uni"} | _ROOM
#: Left to itself, the demo model fills JSON with spaces until it may say no more.
COMPACT_JSON: Final = {"backend": "xgrammar", "disable_any_whitespace": True}
_VLLM_ENVIRONMENT: Final = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}

ENGINES: Final = [
    EngineUnderTest("mock", "mock", _mock_model),
    EngineUnderTest(
        "vllm",
        _VLLM,
        _vllm_model,
        python=vllm_python,
        environment=_VLLM_ENVIRONMENT,
        marks=(pytest.mark.vllm, pytest.mark.timeout(2 * _VLLM_START_S)),
        start_timeout_s=_VLLM_START_S,
        also=frozenset({"refused adapters"}),
        # Its parser is one that says nothing until an answer is complete.
        lacks=frozenset({"parsers", "embeddings", "images", "sounds", "speech"}),
    ),
    EngineUnderTest(
        "vllm-images",
        _VLLM,
        _vision_model,
        python=vllm_python,
        environment=_VLLM_ENVIRONMENT,
        marks=(pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(2 * _VLLM_START_S)),
        start_timeout_s=_VLLM_START_S,
        only_for=frozenset({"images"}),
        also=frozenset({"tokens", "tokenizer"}),
    ),
    EngineUnderTest(
        "vllm-sounds",
        _VLLM,
        _audio_model,
        python=vllm_python,
        environment=_VLLM_ENVIRONMENT,
        marks=(pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(2 * _VLLM_START_S)),
        start_timeout_s=_VLLM_START_S,
        only_for=frozenset({"sounds"}),
    ),
    EngineUnderTest(
        "vllm-speech",
        _VLLM,
        _speech_model,
        python=vllm_python,
        environment=_VLLM_ENVIRONMENT,
        marks=(pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(2 * _VLLM_START_S)),
        start_timeout_s=_VLLM_START_S,
        max_model_len=64,
        only_for=frozenset({"speech"}),
    ),
    EngineUnderTest(
        "vllm-pooling",
        _VLLM,
        _pooling_model,
        python=vllm_python,
        environment=_VLLM_ENVIRONMENT,
        marks=(pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(2 * _VLLM_START_S)),
        start_timeout_s=_VLLM_START_S,
        only_for=frozenset({"embeddings"}),
    ),
    EngineUnderTest(
        "openai",
        "openai",
        _openai_model,
        marks=(pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(2 * _VLLM_START_S)),
    ),
    EngineUnderTest(
        "openai-images",
        "openai",
        _upstream_images,
        marks=(pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(2 * _VLLM_START_S)),
        only_for=frozenset({"images"}),
    ),
    EngineUnderTest(
        "openai-pooling",
        "openai",
        _upstream_pooling,
        marks=(pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(2 * _VLLM_START_S)),
        only_for=frozenset({"embeddings"}),
    ),
    EngineUnderTest(
        "llama-cpp",
        "llama-cpp",
        _llama_cpp_model,
        python=lambda: _python_of("llama-cpp"),
        marks=(pytest.mark.slow,),
    ),
    EngineUnderTest(
        "sglang-standin",
        "cuda-sglang",
        _sglang_model,
        python=vllm_python,
        environment=_VLLM_ENVIRONMENT | {"PYTHONPATH": str(_SGLANG_STANDIN)},
        marks=(pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(2 * _VLLM_START_S)),
        start_timeout_s=_VLLM_START_S,
        also=frozenset({"refused adapters"}),
        lacks=frozenset({"embeddings"}),
    ),
    EngineUnderTest(
        "sglang-parsers",
        "cuda-sglang",
        _sglang_parsing_model,
        python=vllm_python,
        environment=_VLLM_ENVIRONMENT | {"PYTHONPATH": str(_SGLANG_STANDIN)},
        marks=(pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(2 * _VLLM_START_S)),
        start_timeout_s=_VLLM_START_S,
        only_for=frozenset({"parsers"}),
        also=frozenset({"model"}),
    ),
    EngineUnderTest(
        "sglang-pooling",
        "cuda-sglang",
        _sglang_pooling_model,
        python=vllm_python,
        environment=_VLLM_ENVIRONMENT | {"PYTHONPATH": str(_SGLANG_STANDIN)},
        marks=(pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(2 * _VLLM_START_S)),
        start_timeout_s=_VLLM_START_S,
        only_for=frozenset({"embeddings"}),
    ),
    *(_trt(release) for release in trtllm.TRTLLM_RELEASES),
]


def _limits() -> dict[str, Any]:
    return {"max_batch_size": SLOTS, "max_model_len": CONTEXT}


def _chat_options(adapter: Path) -> dict[str, Any]:
    """Return what lets a server call tools, constrain answers, and load an adapter."""
    return {
        "lora-modules": f"other={adapter}",
        # On a CPU, vLLM 0.32 applies the last of its adapters also to the jobs without one,
        # if they run beside jobs with one: the last must be an empty place.
        "max-loras": 2,
        "structured-outputs-config": json.dumps(COMPACT_JSON),
        "tool-call-parser": "phi4_mini_json",
        "enable-lora": None,
        "enable-auto-tool-choice": None,
    }


@contextmanager
def vllm_server(directory: Path, more: Mapping[str, Any]) -> Iterator[str]:
    """A real `vllm serve` (by its module: the CPU's package has no working command), with `more`
    options; those without a value are None."""
    port = free_port()
    options: dict[str, Any] = {
        "model": MODEL_DIR,
        "served-model-name": "upstream",
        "port": port,
        "host": "127.0.0.1",
        "max-num-seqs": SLOTS,
        "max-model-len": CONTEXT,
        "distributed-executor-backend": "uni",
        "enforce-eager": None,
        **{name.replace("_", "-"): value for name, value in _ROOM.items()},
        **more,
    }
    arguments = [
        f"--{name}" if value is None else f"--{name}={value}" for name, value in options.items()
    ]
    log = directory / "vllm-serve.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                *(vllm_python(), "-m", "vllm.entrypoints.openai.api_server"),
                *arguments,
            ],
            env={**os.environ, **_VLLM_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}/v1"
        _wait_for(url, server, log)
        yield url
    finally:
        os.killpg(server.pid, 9)
        server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _VLLM_START_S
    while True:
        assert server.poll() is None, log.read_text(errors="replace")[-4000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-4000:]
        try:
            if httpx.get(f"{url}/models", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.25)


def write_adapter(directory: Path, **settings: Any) -> Path:
    """A LoRA adapter for the demo model that turns its answers upside down: large numbers in
    the first layer's value projection. Written by hand, for want of torch here."""
    config = json.loads((MODEL_DIR / "config.json").read_text())
    width = config["hidden_size"]
    values = width // config["num_attention_heads"] * config["num_key_value_heads"]
    rank = 1
    directory.mkdir()
    (directory / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "r": rank,
                "lora_alpha": rank,
                "target_modules": ["v_proj"],
                "base_model_name_or_path": str(MODEL_DIR),
                "bias": "none",
                "task_type": "CAUSAL_LM",
                **settings,
            }
        )
    )
    layer = "base_model.model.model.layers.0.self_attn.v_proj"
    tensors = {
        f"{layer}.lora_A.weight": [rank, width],
        f"{layer}.lora_B.weight": [values, rank],
    }
    write_safetensors(directory / "adapter_model.safetensors", tensors, 8.0)
    return directory


def write_safetensors(path: Path, shapes: Mapping[str, list[int]], value: float) -> None:
    """Float32 tensors, every number of which is `value`."""
    import math
    import struct

    header: dict[str, Any] = {}
    data = b""
    for name, shape in shapes.items():
        numbers = struct.pack("<f", value) * math.prod(shape)
        header[name] = {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [len(data), len(data) + len(numbers)],
        }
        data += numbers
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
