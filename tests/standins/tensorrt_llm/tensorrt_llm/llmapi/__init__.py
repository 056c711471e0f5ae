"""The exports of `tensorrt_llm.llmapi`, as far as ew uses them."""

from enum import Enum

from ..executor import LoRARequest, RequestError
from ..llm import DefaultLLM as LLM
from ..release import ALGORITHMS, RELEASE, dataclass_of, model_of
from ..sampling_params import GuidedDecodingParams, SamplingParams
from .kv_cache import KvCacheConfig

QuantAlgo = Enum("QuantAlgo", {name: name for name in ALGORITHMS}, type=str)
QuantConfig = dataclass_of("QuantConfig", kw_only=False)

__all__ = [
    "LLM",
    "GuidedDecodingParams",
    "KvCacheConfig",
    "LoRARequest",
    "QuantAlgo",
    "QuantConfig",
    "RequestError",
    "SamplingParams",
]
if RELEASE["has_plans"]:
    from ..builder import BuildConfig

    CalibConfig = model_of("CalibConfig")
    __all__ += ["BuildConfig", "CalibConfig"]
