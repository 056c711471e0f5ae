"""Configuration: deploy/config.json, with EW_* variables over it, checked once and then frozen.

`EW_GATEWAY__PORT=9000` overrides `gateway.port`; two underscores go one level down.
"""

from contract.config.gateway import GatewayConfig, TlsConfig
from contract.config.last_good import Loaded, load_and_keep, load_or_recall
from contract.config.loading import ConfigError, load_config
from contract.config.logs import LogsConfig, TracingConfig
from contract.config.model import ModelConfig, WatchdogConfig, is_repo_id
from contract.config.names import (
    GATEWAY_FIELDS,
    IN_FILE_ONLY,
    Named,
    ids_by_name,
    meanings,
    names_of,
)
from contract.config.records import DeadLettersConfig, UsageConfig
from contract.config.routing import FallbackConfig, ShadowConfig, SplitConfig
from contract.config.schema import (
    Config,
    FilesConfig,
    HubConfig,
    JobsConfig,
    KeysConfig,
    LimitsConfig,
    RedisConfig,
    WorkerSpec,
)
from contract.config.section import ModelId, Section

__all__ = [
    "GATEWAY_FIELDS",
    "IN_FILE_ONLY",
    "Config",
    "ConfigError",
    "DeadLettersConfig",
    "FallbackConfig",
    "FilesConfig",
    "GatewayConfig",
    "HubConfig",
    "JobsConfig",
    "KeysConfig",
    "LimitsConfig",
    "Loaded",
    "LogsConfig",
    "ModelConfig",
    "ModelId",
    "Named",
    "RedisConfig",
    "Section",
    "ShadowConfig",
    "SplitConfig",
    "TlsConfig",
    "TracingConfig",
    "UsageConfig",
    "WatchdogConfig",
    "WorkerSpec",
    "ids_by_name",
    "is_repo_id",
    "load_and_keep",
    "load_config",
    "load_or_recall",
    "meanings",
    "names_of",
]
