"""The configuration: every section, each key with its type, bounds and default."""

from __future__ import annotations

from pydantic import Field

from contract.config.gateway import GatewayConfig
from contract.config.key_limits import GroupName, KeyLimitsConfig
from contract.config.logs import LogsConfig, TracingConfig
from contract.config.model import EngineName, ModelConfig
from contract.config.names import Models
from contract.config.records import DeadLettersConfig, UsageConfig
from contract.config.section import HostName, ModelId, Section
from contract.endings import LETTER_DAYS, TRACE_DAYS
from contract.usage import KEEP_DAYS


class RedisConfig(Section):
    """Where queues and token streams live."""

    url: str | None = Field(
        None,
        description="An external Redis (>= 7) or Valkey, as redis://, rediss:// or unix://, or "
        "redis+sentinel://HOST:PORT,HOST:PORT/NAME/0; ew starts a Valkey of its own if unset.",
    )
    max_memory_bytes: int | None = Field(
        None,
        ge=67_108_864,
        description="The memory of ew's own Valkey; an eighth of this host's, and 256 MiB "
        "to 8 GiB, if unset.",
    )


class KeysConfig(Section):
    """API keys, where several hosts with gateways share one Redis."""

    source: HostName | None = Field(
        None,
        description="The host whose keys all of them have, by its name; each has keys of its own "
        "if unset.",
    )
    secret_file: str | None = Field(
        None,
        description="A file with a secret of 32 characters or more, the same on every host with a "
        "gateway: with it keys are signed on their way.",
    )


class HubConfig(Section):
    """Where models are downloaded from. Unset keys are as Hugging Face's own variables say."""

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/]",
        description="A mirror of https://huggingface.co, instead of HF_ENDPOINT.",
    )
    token_env: str | None = Field(
        None, description="The variable that holds the token, instead of HF_TOKEN."
    )
    token_file: str | None = Field(None, description="A file that holds the token.")


class LimitsConfig(Section):
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
    max_output_len: int = Field(
        32_768,
        ge=1,
        description="The most tokens a request may ask for; on `/v1`, the most that one gets.",
    )
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
    per_key: KeyLimitsConfig = Field(
        default_factory=KeyLimitsConfig,
        description="The limits of one API key, where `ew keys` gives it no others.",
    )
    groups: dict[GroupName, KeyLimitsConfig] = Field(
        default_factory=dict, description="The limits of the keys of a group together."
    )
    total_timeout_s: float = Field(900, gt=0, description="From the request to the last token.")


class JobsConfig(Section):
    """Background jobs, which go on without their client."""

    keep_s: float = Field(
        86_400, ge=60, description="How long the answer of a job that has ended is kept."
    )
    max_bytes: int = Field(
        67_108_864,
        ge=1_048_576,
        description="The memory of all jobs in Redis, open and ended; beyond it the oldest that "
        "have ended go, and if that is not enough no new one is taken.",
    )
    timeout_s: float = Field(86_400, ge=60, description="How long a job may wait for a worker.")
    webhook_hosts: list[str] = Field(
        default_factory=list,
        description="Hosts that a job's end may be told to, such as `hooks.example.com`; "
        "`*.example.com` covers all below, `*` is any. None if this is empty.",
    )
    webhook_private_hosts: list[str] = Field(
        default_factory=list,
        description="Those of them, by name or address, that may be within your own network "
        "(loopback, private and link-local addresses) and asked by plain http.",
    )


class FilesConfig(Section):
    """Uploaded files and batches, on this host's disk."""

    max_file_bytes: int = Field(2_147_483_648, ge=1_048_576, description="The largest file.")
    max_bytes_per_key: int = Field(
        8_589_934_592, ge=1_048_576, description="All files of one API key."
    )
    max_bytes: int = Field(
        17_179_869_184,
        ge=1_048_576,
        description="All files; what running batches have written comes to it at their ends.",
    )
    max_batch_lines: int = Field(
        1_000_000, ge=1, description="Requests of one batch; checking them takes 80 bytes each."
    )
    keep_s: int = Field(
        2_592_000, ge=60, description="How long a file is kept, and a batch after its end."
    )


class Config(Section):
    """Everything that an operator decides."""

    schema_: str | None = Field(None, alias="$schema", description="For editors.")
    models: Models = Field(default_factory=dict)
    gateway: GatewayConfig = GatewayConfig()
    redis: RedisConfig = RedisConfig()
    keys: KeysConfig = KeysConfig()
    limits: LimitsConfig = LimitsConfig()
    hub: HubConfig = HubConfig()
    jobs: JobsConfig = JobsConfig()
    files: FilesConfig = FilesConfig()
    usage: UsageConfig = UsageConfig()
    dead_letters: DeadLettersConfig = DeadLettersConfig()
    logs: LogsConfig = LogsConfig()
    tracing: TracingConfig = TracingConfig()


class WorkerSpec(Section):
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
    #: How many tokens that many bytes hold, for engines that take their cache's size in tokens.
    kv_cache_tokens: int | None = None
    #: Fraction of each GPU's memory that the engine may take in all.
    gpu_memory_fraction: float | None = None
    #: The plan of the cache: tokens of a sequence, and sequences at once; None leaves
    #: them to the engine. The three always go to it together.
    context_len: int | None = None
    max_sequences: int | None = None
    #: When told to stop: how long open answers may go on before they are given back.
    drain_s: float = 20.0
    #: Jobs of a gateway that is gone for this long are cancelled: no client came back for them.
    gateway_grace_s: float = 30.0
    #: How long what is used on a day is kept, a dead letter, and what became of a job.
    usage_days: int = KEEP_DAYS
    letter_days: int = LETTER_DAYS
    trace_days: int = TRACE_DAYS
    logs: LogsConfig = LogsConfig()

    @classmethod
    def handed_over(cls, text: str) -> WorkerSpec:
        """Parse what a supervisor has written, which may be of a later version: after a return to
        this one, a worker may start before `ew restart`. What is not known here has no effect."""
        return cls.model_validate_json(text, extra="ignore")
