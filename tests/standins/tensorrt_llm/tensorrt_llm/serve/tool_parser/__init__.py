"""Parsers of calls, in the releases that have any."""

from ...release import NAME, RELEASE

if not RELEASE["tool_parsers"]:
    raise ImportError(f"TensorRT-LLM {NAME} has no parsers of tool calls")
