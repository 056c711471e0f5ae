"""Configuration: deploy/config.json, with EW_* variables over it, checked once and then frozen.

`EW_GATEWAY__PORT=9000` overrides `gateway.port`; two underscores go one level down.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from contract import bounds
from contract.json_lines import DuplicateKey, line_of, load_json

EngineName = Literal["vllm", "cuda-vllm", "cpu-vllm", "cuda-trt", "llama-cpp", "openai", "mock"]
Dtype = Literal["auto", "float16", "bfloat16", "float32", "half", "float"]
#: A model's name is in URLs, Redis keys, file names and metric labels. It may look like a Hugging
#: Face repository: `Qwen/Qwen2.5-7B-Instruct`.
ModelId = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]*(/[A-Za-z0-9_][A-Za-z0-9._:@-]*)*$", max_length=96
    ),
]
Port = Annotated[int, Field(ge=0, le=65535)]


class ConfigError(Exception):
    """The configuration cannot be used; the message names file, line and key of each problem."""


class Part(BaseModel):
    """A section of the configuration: no unknown keys, no change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


class SamplingConfig(Part):
    """How a model chooses tokens where a request does not say. What is not given here either is
    as the model's own generation_config.json has it, or the engine."""

    max_tokens: bounds.Tokens | None = Field(
        None, description="The longest answer; as long as the context allows if unset."
    )
    temperature: bounds.Temperature | None = None
    top_p: bounds.TopP | None = None
    top_k: bounds.TopK | None = Field(None, description="0 or -1 takes all tokens into account.")
    min_p: bounds.MinP | None = None
    presence_penalty: bounds.Penalty | None = None
    frequency_penalty: bounds.Penalty | None = None
    repetition_penalty: bounds.RepetitionPenalty | None = None
    seed: bounds.Seed | None = None
    stop: tuple[bounds.StopText, ...] | None = Field(
        None, max_length=bounds.MOST_STOPS, description="Texts that end an answer."
    )


class ModelConfig(Part):
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
    env: str | None = Field(
        None, description="The environment that runs the engine; `ew-ENGINE` when not given."
    )
    replicas: int = Field(1, ge=1, le=64, description="How many workers serve this model.")
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
        description="`on-demand`, vLLM on GPUs: instead of being unloaded, its weights wait in the "
        "host's memory if they fit there; it is back in seconds.",
    )
    pinned: bool = Field(False, description="Never unload it to make room for another.")
    gpus: list[int | str] | None = Field(
        None, description="Only on these GPUs, by index or UUID; any that fit if unset."
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
    command: list[str] | None = Field(
        None, description="`openai` engine: start this server with the model; {port} is filled in."
    )

    @model_validator(mode="after")
    def _samples_within_bounds(self) -> Self:
        wanted = self.sampling.max_tokens if self.sampling else None
        if wanted and self.max_output_len and wanted > self.max_output_len:
            message = "`sampling.max_tokens` ({wanted}) is more than `max_output_len` ({most})"
            context = {"wanted": wanted, "most": self.max_output_len}
            raise PydanticCustomError("too_many_tokens", message, context)
        return self

    @property
    def context_len(self) -> int | None:
        """Prompt and answer together, in tokens, if the configuration bounds it."""
        if self.max_model_len or not (self.max_input_len and self.max_output_len):
            return self.max_model_len
        return self.max_input_len + self.max_output_len


#: What the gateway alone does; a worker need not start anew for it.
GATEWAY_FIELDS: Final = frozenset({"aliases", "served_model_name", "sampling"})


def names_of(model_id: str, model: ModelConfig) -> list[str]:
    """All names of a model, its id first."""
    served = [model.served_model_name] if model.served_model_name else []
    return list(dict.fromkeys([model_id, *served, *model.aliases]))


def ids_by_name(models: Mapping[str, ModelConfig]) -> dict[str, str]:
    """The id of each model, by every name that it has."""
    return {
        name: model_id for model_id, model in models.items() for name in names_of(model_id, model)
    }


class Named(NamedTuple):
    """What a name stands for: a model, or an adapter that is served with it."""

    model: str
    adapter: str | None = None

    def __str__(self) -> str:
        return f"an adapter of `{self.model}`" if self.adapter else f"`{self.model}`"


def meanings(models: Mapping[str, ModelConfig]) -> Iterator[tuple[str, Named]]:
    """All names that a request may give, each with what it stands for."""
    for model_id, model in models.items():
        for name in names_of(model_id, model):
            yield name, Named(model_id)
        for name in model.adapters:
            yield name, Named(model_id, name)


def _with_names_of_their_own(models: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
    owners: dict[str, Named] = {}
    for name, named in meanings(models):
        owner = owners.setdefault(name, named)
        if owner != named:
            message = "`{name}` is a name of both {owner} and {other}; a name has one model"
            raise PydanticCustomError(
                "name_taken", message, {"name": name, "owner": str(owner), "other": str(named)}
            )
    return models


Models = Annotated[dict[ModelId, ModelConfig], AfterValidator(_with_names_of_their_own)]


class GatewayConfig(Part):
    """The HTTP server."""

    host: str = Field("127.0.0.1", description="Loopback unless you ask for more.")
    port: Port = Field(8080, description="0 picks a free port.")
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Names that clients may use for this gateway, as in `Host`; `*.example.com` "
        "covers all below. On loopback, its own names are allowed anyway; elsewhere any is if "
        "this is empty.",
    )
    admin_host: str = Field("127.0.0.1", description="Where `admin_port` is listened on.")
    admin_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="A second listener, which shows `/metrics`, `/docs` and `/openapi.json` "
        "without an API key; nobody else should reach it.",
    )
    processes: int = Field(
        0, ge=0, le=64, description="HTTP processes; 0 takes one for every four cores."
    )
    drain_timeout_s: float = Field(
        30, ge=0, description="How long open answers may go on when the gateway stops."
    )
    max_connections: int = Field(
        8192, ge=16, description="Connections that one HTTP process may have."
    )

    @model_validator(mode="after")
    def _has_two_ports(self) -> GatewayConfig:
        if self.admin_port == self.port:
            raise ValueError("`admin_port` must not be `port`")
        return self


class RedisConfig(Part):
    """Where queues and token streams live."""

    url: str | None = Field(
        None,
        description="An external Redis (>= 7) or Valkey, as redis://, rediss:// or unix://; "
        "ew starts a Valkey of its own if unset.",
    )
    max_memory_bytes: int | None = Field(
        None,
        ge=67_108_864,
        description="What ew's own Valkey may take; an eighth of this host's memory, and 256 MiB "
        "to 8 GiB, if unset.",
    )


class HubConfig(Part):
    """Where models are downloaded from. What is unset is as Hugging Face's own variables say."""

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/]",
        description="A mirror of https://huggingface.co, instead of HF_ENDPOINT.",
    )
    token_env: str | None = Field(
        None, description="The variable that holds the token, instead of HF_TOKEN."
    )
    token_file: str | None = Field(None, description="A file that holds the token.")


class LimitsConfig(Part):
    """Bounds that keep one client from hurting the others."""

    max_waiting: int = Field(1024, ge=1, description="Jobs that may wait for one model.")
    max_waiting_bytes: int = Field(
        268_435_456, ge=1_048_576, description="Bytes of the jobs in one model's queue."
    )
    max_reply_bytes: int = Field(
        268_435_456,
        ge=1_048_576,
        description="Bytes of answers that one HTTP process keeps for those who resume; beyond "
        "them the oldest go.",
    )
    max_body_bytes: int = Field(1_048_576, ge=1024, description="The largest request body.")
    max_output_len: int = Field(32_768, ge=1, description="The most tokens a request may ask for.")
    max_choices: int = Field(8, ge=1, le=128, description="The largest `n`.")
    max_logprobs: int = Field(
        250_000,
        ge=1,
        description="Log probabilities in an answer that is not streamed: tokens, times choices, "
        "times alternatives and one.",
    )
    queue_timeout_s: float = Field(120, gt=0, description="The longest wait for a worker.")
    first_token_timeout_s: float = Field(
        120, gt=0, description="From the worker to its first token."
    )
    token_gap_timeout_s: float = Field(60, gt=0, description="Between two tokens.")
    total_timeout_s: float = Field(900, gt=0, description="From the request to the last token.")


class Config(BaseSettings):
    """Everything that an operator decides."""

    model_config = SettingsConfigDict(
        env_prefix="EW_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
    )

    schema_: str | None = Field(None, alias="$schema", description="For editors.")
    models: Models = Field(default_factory=dict)
    gateway: GatewayConfig = GatewayConfig()
    redis: RedisConfig = RedisConfig()
    limits: LimitsConfig = LimitsConfig()
    hub: HubConfig = HubConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables win over the file (which comes as init arguments)."""
        return env_settings, init_settings


class WorkerSpec(Part):
    """All that one worker process needs to know; the supervisor hands it over as JSON in
    the variable EW_WORKER."""

    name: str
    model_id: ModelId
    model: ModelConfig
    engine: EngineName
    env: str
    redis_url: str
    #: Bytes of GPU memory per GPU for the KV cache, as planned; None leaves it to the engine.
    kv_cache_bytes: int | None = None
    #: Fraction of each GPU's memory that the engine may take in all.
    gpu_memory_fraction: float | None = None
    #: When told to stop: how long open answers may go on before they are given back.
    drain_s: float = 20.0
    #: Jobs of a gateway that is gone for this long are cancelled: nobody came back for them.
    gateway_grace_s: float = 30.0


def load_config(path: Path) -> Config:
    """Read and check a configuration file. Raises `ConfigError`."""
    data, text = _read(path)
    problems = list(_unusable_variables())
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        return Config(**data)
    except ValidationError as error:
        problems = [_explain(path, text, data, problem) for problem in error.errors()]
        raise ConfigError("\n".join(problems)) from None
    except SettingsError as error:
        raise ConfigError(f"EW_* variables: {error}") from None


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """A configuration file's data, and its text."""
    try:
        text = path.read_text(encoding="utf-8")
        data = load_json(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text") from None
    except DuplicateKey as error:
        raise ConfigError(f"{path}:{error.line}: `{error.key}` is given twice") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}:1: expected an object")
    return data, text


def _unusable_variables() -> Iterator[str]:
    """EW_* variables that name no section, or hold something else than JSON where they must."""
    for name, keys in _variables():
        if keys[0] in _SECTIONS:
            yield from _not_json(name, keys)
        elif len(keys) > 1:
            near = difflib.get_close_matches(keys[0], _SECTIONS, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            yield f"{name}: unknown section `{keys[0]}`{hint}"


def _not_json(name: str, keys: list[str]) -> Iterator[str]:
    value = os.environ[name]
    if len(keys) == 1 or value.startswith(("{", "[")):
        try:
            json.loads(value)
        except json.JSONDecodeError as error:
            yield f"{name}: not valid JSON: {error.msg}"


def _variables() -> Iterator[tuple[str, list[str]]]:
    """The EW_* variables, each with the path of the key that it overrides, in lower case."""
    for name in sorted(os.environ):
        if name.upper().startswith("EW_"):
            yield name, name[3:].lower().split("__")


def _explain(path: Path, text: str, data: dict[str, Any], problem: Any) -> str:
    """One line about one problem: where it is, what it is, and the nearest known key."""
    keys = [str(part) for part in problem["loc"] if part != "[key]"]
    name = ".".join(keys)
    if problem["type"] == "missing":
        variable = None if _has(data, keys[:-1]) else _variable(keys[:-1])
    else:
        variable = _variable(keys)
    where = variable or f"{path}:{line_of(text, keys)}"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], _known_keys(keys[:-1]), n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        return f"{where}: unknown key `{name}`{hint}"
    return f"{where}: `{name}`: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def _variable(keys: list[str]) -> str | None:
    """The environment variable that gives the key at this path, or something below it."""
    wanted = [key.lower() for key in keys]
    for name, path in _variables():
        depth = min(len(path), len(wanted))
        if path[:depth] == wanted[:depth] and _has(os.environ[name], keys[depth:]):
            return name
    return None


def _has(data: Any, keys: list[str]) -> bool:
    """Whether data (or the JSON in a string) has a key at this path."""
    if keys and isinstance(data, str):
        data = json.loads(data) if data.startswith("{") else None
    for key in keys:
        if not isinstance(data, dict) or key not in data:
            return False
        data = data[key]
    return True


_SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "gateway": GatewayConfig,
    "redis": RedisConfig,
    "limits": LimitsConfig,
    "hub": HubConfig,
    "models": ModelConfig,
}


def _known_keys(keys: list[str]) -> list[str]:
    """The keys that the section at `keys` may have."""
    section = _SECTIONS[keys[0]] if keys else Config
    return [field.alias or name for name, field in section.model_fields.items()]


def is_repo_id(model_path: str) -> bool:
    """Whether a model path has the form of a Hugging Face repository id."""
    if model_path.endswith(".gguf"):
        return False
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", model_path) is not None
