"""A stand-in for TensorRT-LLM, for tests: NVIDIA's library is not here, and no GPU is needed.

It plays one release (see `release`): the arguments that this release takes, the errors it gives,
and how its results behave; the tokens are real, computed on the CPU with transformers.
Put the directory above this one on PYTHONPATH.
"""

import sys

from . import modules
from .executor import LoRARequest
from .llmapi import LLM, SamplingParams
from .release import NAME, RELEASE

__version__ = NAME
__all__ = ["LLM", "LoRARequest", "SamplingParams", "__version__", "modules"]
if RELEASE["has_plans"]:
    from .builder import BuildConfig

    __all__ += ["BuildConfig"]

sys.stdout.write(f"[TensorRT-LLM] TensorRT-LLM version: {__version__}\n")
