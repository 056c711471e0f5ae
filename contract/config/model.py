"""The section of one model: each key with its type, bounds and default."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from contract import bounds
from contract.config.routing import FallbackConfig, ShadowConfig, SplitConfig
from contract.config.section import HostPattern, ModelId, Section
from contract.engines import engine_names

#: One of those that deploy/engines declares, or what several of them are called together.
if TYPE_CHECKING:
    EngineName: TypeAlias = str
else:
    EngineName = Literal[engine_names()]
Dtype = Literal["auto", "float16", "bfloat16", "float32", "half", "float"]
#: Of an environment variable; a `*` stands for any letters.
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\*?$")]


class SamplingConfig(Section):
    """The choice of tokens where a request does not say. A setting that is not given here either is
    as the model's own generation_config.json has it, or the engine."""

    max_tokens: bounds.Tokens | None = Field(
        None, description="The longest answer; as long as the context allows if unset."
    )
    temperature: bounds.Temperature | None = Field(
        None, description="0 always takes the likeliest token; higher is more varied."
    )
    top_p: bounds.TopP | None = Field(
        None, description="Only the likeliest tokens that have this probability together."
    )
    top_k: bounds.TopK | None = Field(None, description="0 or -1 takes all tokens into account.")
    min_p: bounds.MinP | None = Field(
        None, description="Only tokens with this part of the likeliest one's probability."
    )
    presence_penalty: bounds.Penalty | None = Field(
        None, description="Above 0: against tokens that the answer has already."
    )
    frequency_penalty: bounds.Penalty | None = Field(
        None, description="The same, more with each time."
    )
    repetition_penalty: bounds.RepetitionPenalty | None = Field(
        None, description="Above 1: against tokens of the prompt, too."
    )
    seed: bounds.Seed | None = Field(
        None, description="The same answer to the same request, as far as the engine can."
    )
    stop: tuple[bounds.StopText, ...] | None = Field(
        None, max_length=bounds.MOST_STOPS, description="Texts that end an answer."
    )


class WatchdogConfig(Section):
    """When an engine is taken for hung: its worker is ended, and its jobs go on elsewhere. The
    limits are below those of the gateway (`limits`), so that clients wait instead of failing."""

    first_token_s: float = Field(
        60,
        gt=0,
        description="The longest that the engine may say nothing while it has to begin an answer, "
        "beyond the time to read its prompt.",
    )
    prompt_tokens_per_s: float = Field(
        200, gt=0, description="How fast prompts are read at the least."
    )
    token_s: float = Field(30, gt=0, description="The same, while all of its answers have begun.")
    canary_every_s: float = Field(
        300,
        ge=0,
        description="An engine without requests generates one token so often, to show that it "
        "lives; 0: only where that is in doubt. Servers elsewhere are never asked.",
    )


class ModelConfig(Section):
    """One model that clients can ask for by its name."""

    engine: EngineName = Field(
        "vllm", description="`vllm` is cuda-vllm where an NVIDIA GPU is seen, else cpu-vllm."
    )
    model_path: str = Field(
        description="A local directory (relative to the project) or a Hugging Face repository id; "
        "`llama-cpp`: a GGUF file, local or as `ORG/REPO/FILE.gguf`."
    )
    aliases: tuple[ModelId, ...] = Field(
        (), description="Other names that requests, keys and commands may give."
    )
    served_model_name: ModelId | None = Field(
        None, description="The name that answers carry, and one more to ask for; else the id."
    )
    sampling: SamplingConfig | None = Field(
        None, description="How tokens are chosen where a request does not say."
    )
    fallback: FallbackConfig | None = Field(
        None, description="Other models that do what this one cannot, or not soon."
    )
    split: SplitConfig | None = Field(
        None, description="Other models that do a share of what this one is asked for."
    )
    shadow: ShadowConfig | None = Field(
        None, description="Another model that is asked the same, and whose answers are dropped."
    )
    env: str | None = Field(
        None, description="The environment that runs the engine; `ew-ENGINE` when not given."
    )
    replicas: int = Field(
        1, ge=1, le=64, description="How many workers serve this model, on each host that runs it."
    )
    hosts: tuple[HostPattern, ...] = Field(
        (),
        description="Hosts that run it, by name or pattern (`gpu-*`), where several share one "
        "configuration and one Redis; all of them if empty.",
    )
    max_batch_size: int | None = Field(
        None, ge=1, le=65536, description="Sequences that the engine runs at once."
    )
    max_input_len: int | None = Field(None, ge=1, description="The longest prompt, in tokens.")
    max_output_len: int | None = Field(None, ge=1, description="The longest answer, in tokens.")
    max_model_len: int | None = Field(
        None,
        ge=1,
        description="Prompt and answer together, in tokens; the sum of the two if unset.",
    )
    dtype: Dtype = Field("auto", description="The type of weights and activations.")
    tensor_parallel_size: int = Field(1, ge=1, le=64, description="GPUs that share each layer.")
    pipeline_parallel_size: int = Field(1, ge=1, le=64, description="GPUs that share the layers.")
    quantization: str | None = Field(None, description="As the engine names it, such as `fp8`.")
    gpu_memory_utilization: float | None = Field(
        None, gt=0, le=1, description="Fraction of a GPU's memory; ew plans exact bytes if unset."
    )
    gpu_memory_gib: float | None = Field(
        None,
        gt=0,
        le=1_048_576,
        description="GiB of each of its GPUs, instead of what ew works out, as the fraction.",
    )
    adapter_path: str | None = Field(
        None, description="A LoRA adapter for all requests that name the model itself."
    )
    adapters: dict[ModelId, str] = Field(
        default_factory=dict,
        description="LoRA adapters, each by the name that requests give instead of the model's.",
    )
    share_prefix_cache: bool = Field(
        False,
        description="All keys share the cache of prompts. It saves the reading of beginnings that "
        "keys have in common, and lets a key find out what others asked.",
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the checkpoint."
    )
    tool_parser: str | None = Field(
        None,
        description="vLLM, SGLang, TensorRT-LLM: reads the model's tool calls, by the name that "
        "the library has for it, such as `hermes` in vLLM; without one, only calls that a request "
        "demands can be made. Unset: what the library has for the checkpoint, if it is one that it "
        "names; `none`: no parser.",
    )
    reasoning_parser: str | None = Field(
        None,
        description="The same: tells what the model thinks from its answer, such as `qwen3`; "
        "without one, all is answer. Unset and `none` are as for `tool_parser`.",
    )
    score_template: str | None = Field(
        None,
        description="vLLM: a file with the Jinja template by which a reranker reads a pair of "
        "texts, turns of `query` and `document`; vLLM's server has it as `--chat-template`.",
    )
    engine_args: dict[str, Any] = Field(
        default_factory=dict, description="Passed to the engine as they are."
    )
    load: Literal["always", "on-demand"] = Field(
        "always", description="`on-demand` loads the model at its first request."
    )
    idle_unload_s: float | None = Field(
        None, gt=0, description="`on-demand`: unload after this long without a request."
    )
    sleep: bool = Field(
        False,
        description="`on-demand`, vLLM or SGLang on GPUs: instead of being unloaded, its weights "
        "wait in the host's memory if they fit there; it is back in seconds.",
    )
    pinned: bool = Field(False, description="Never unload it to make room for another.")
    gpus: list[int | str] | None = Field(
        None, description="Only on these GPUs, by index or UUID; any that fit if unset."
    )
    watchdog: WatchdogConfig = Field(
        WatchdogConfig(), description="When the engine is taken for hung."
    )
    start_timeout_s: float = Field(
        900, gt=0, description="The longest that a start may take, without a download."
    )
    base_url: str | None = Field(None, description="`openai` engine: the server behind it.")
    api_key_env: str | None = Field(
        None, description="`openai` engine: the variable that holds the server's key."
    )
    upstream_model: str | None = Field(
        None, description="`openai` engine: the model's name there; the id here if unset."
    )
    pass_env: tuple[VariableName, ...] = Field(
        (),
        description="Variables that its worker inherits beside those of the list in "
        "docs/security.md, by name; a `*` stands for any letters.",
    )
    command: list[str] | None = Field(
        None, description="`openai` engine: start this server with the model; {port} is filled in."
    )

    @model_validator(mode="after")
    def _samples_within_bounds(self) -> ModelConfig:
        wanted = self.sampling.max_tokens if self.sampling else None
        if wanted and self.max_output_len and wanted > self.max_output_len:
            message = "`sampling.max_tokens` ({wanted}) is more than `max_output_len` ({most})"
            context = {"wanted": wanted, "most": self.max_output_len}
            raise PydanticCustomError("too_many_tokens", message, context)
        return self

    @property
    def is_routed(self) -> bool:
        """Whether another model may do what this one is asked for."""
        return self.fallback is not None or self.split is not None

    @property
    def adapter_paths(self) -> tuple[str, ...]:
        """All LoRA adapters that it loads."""
        own = (self.adapter_path,) if self.adapter_path else ()
        return own + tuple(self.adapters.values())

    @property
    def context_len(self) -> int | None:
        """Prompt and answer together, in tokens, if the configuration bounds it."""
        if self.max_model_len or not (self.max_input_len and self.max_output_len):
            return self.max_model_len
        return self.max_input_len + self.max_output_len


def is_repo_id(model_path: str) -> bool:
    """Whether a model path has the form of a Hugging Face repository id."""
    if model_path.endswith(".gguf"):
        return False
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", model_path) is not None
