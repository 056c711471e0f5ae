"""The plan engine's `LLM`, where releases 1.0 to 1.2 keep it."""

from tensorrt_llm.llm import PlanLLM as LLM

__all__ = ["LLM"]
