"""`ReasoningParser` for `<think>...</think>`."""

from __future__ import annotations

from typing import Any

_BEGIN, _END = "<think>", "</think>"


class Detector:
    think_start_token = _BEGIN
    think_end_token = _END

    def __init__(self, *, force_reasoning: bool) -> None:
        self.thinks = force_reasoning
        self.buffer = ""

    def parse(self, text: str) -> tuple[str, str]:
        self.buffer += text
        if any(mark.startswith(self.buffer) and mark != self.buffer for mark in (_BEGIN, _END)):
            return "", ""
        if _BEGIN in self.buffer:
            self.buffer, self.thinks = self.buffer.replace(_BEGIN, "", 1), True
        text, self.buffer = self.buffer, ""
        if not self.thinks:
            return "", text
        thought, end, rest = text.partition(_END)
        if end:
            self.thinks = False
            return thought, rest
        held = next(n for n in range(len(_END), -1, -1) if text.endswith(_END[:n]))
        self.buffer = text[len(text) - held :]
        return text[: len(text) - held], ""


class ReasoningParser:
    DetectorMap = dict.fromkeys(("deepseek-r1", "deepseek-v3", "qwen3"))

    def __init__(
        self,
        model_type: str | None = None,
        stream_reasoning: bool = True,
        force_reasoning: bool | None = None,
        request: Any = None,
        tokenizer: Any = None,
        tool_call_parser_active: bool = False,
        prefix: str | None = None,
    ) -> None:
        if model_type not in self.DetectorMap:
            raise ValueError(f"Unsupported model type: {model_type}")
        always = model_type == "deepseek-r1"
        self.detector = Detector(force_reasoning=always or bool(force_reasoning))

    def parse_stream_chunk(self, chunk_text: str) -> tuple[str, str]:
        return self.detector.parse(chunk_text)

    def parse_stream_end(self) -> tuple[str, str]:
        rest, self.detector.buffer = self.detector.buffer, ""
        return (rest, "") if self.detector.thinks else ("", rest)
