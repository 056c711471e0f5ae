"""A step: what the installed TensorRT-LLM is, and which models it takes."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from programs.trt_conversion.child import Child


def main() -> None:
    child = Child()
    import tensorrt_llm
    import torch

    has_plans = any(
        find_spec(name) is not None
        for name in ("tensorrt_llm._tensorrt_engine", "tensorrt_llm.builder")
    )
    child.report(
        {
            "tensorrt_llm": tensorrt_llm.__version__,
            "tensorrt": _version("tensorrt") if has_plans else None,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "has_plans": has_plans,
            "architectures": _plan_models() if has_plans else _checkpoint_models(),
        }
    )


def _plan_models() -> list[str]:
    return sorted(import_module("tensorrt_llm.models").MODEL_MAP)


def _checkpoint_models() -> list[str]:
    import_module("tensorrt_llm._torch.models")
    mapping = import_module("tensorrt_llm._torch.models.modeling_auto").MODEL_CLASS_MAPPING
    return sorted(mapping)


def _version(module: str) -> str | None:
    if find_spec(module) is None:
        return None
    return str(import_module(module).__version__)


if __name__ == "__main__":
    main()
