"""One choice read piece by piece by a parser of vLLM's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from workers.answers.transcript import REASONING, ToolPiece
from workers.engines.shared.parsing.pieces import ParsedPiece, new_call_id


class ParsedChoice:
    """The parser of one choice. `request` is what vLLM's server would have been asked."""

    def __init__(
        self,
        new_parser: Callable[[], Any],
        request: Any,
        prompt_ids: list[int],
        *,
        only_one_call: bool,
    ) -> None:
        self._new_parser = new_parser
        self._parser = new_parser()
        self._request = request
        self._prompt_ids = prompt_ids
        self._only_one = only_one_call
        #: The text that has come while the parser has said nothing: some say nothing until they are
        #: asked about all of it (`phi4_mini_json` of vLLM 0.32).
        self._silent_text = ""
        self._silent_ids: list[int] = []
        self._has_spoken = False
        #: Whether the choice has called a tool.
        self.has_called = False

    def feed(self, text: str, token_ids: Sequence[int], *, finished: bool) -> list[ParsedPiece]:
        """Return what new text means. Raises what a parser may raise."""
        said = self._parser.parse_delta(
            text, list(token_ids), self._request, self._prompt_ids, finished=finished
        )
        pieces = [] if said is None else self._pieces(said.reasoning, said.content)
        if said is not None:
            pieces += [self._call(call) for call in said.tool_calls if self._wants(call)]
        if not self._has_spoken:
            self._has_spoken = bool(pieces)
            self._silent_text += text
            self._silent_ids += token_ids
        if finished and not self._has_spoken and self._silent_text:
            return self._read_all()
        return pieces

    def _read_all(self) -> list[ParsedPiece]:
        parser = self._new_parser()
        parser.set_prompt_token_ids(self._prompt_ids)
        reasoning, content, calls = parser.parse(
            self._silent_text,
            self._request,
            enable_auto_tools=True,
            model_output_token_ids=self._silent_ids,
        )
        pieces = self._pieces(reasoning, content)
        for number, call in enumerate(calls[:1] if calls and self._only_one else calls or ()):
            self.has_called = True
            piece = ToolPiece(number, call.id or new_call_id(), call.name)
            pieces.append(ParsedPiece(piece, call.arguments))
        return pieces

    def _pieces(self, reasoning: str | None, content: str | None) -> list[ParsedPiece]:
        pieces = [ParsedPiece(REASONING, reasoning)] if reasoning else []
        return [*pieces, ParsedPiece(None, content)] if content else pieces

    def _wants(self, call: Any) -> bool:
        return call.function is not None and not (self._only_one and call.index > 0)

    def _call(self, call: Any) -> ParsedPiece:
        self.has_called = True
        name = call.function.name or ""
        call_id = (call.id or new_call_id()) if name else ""
        return ParsedPiece(ToolPiece(call.index, call_id, name), call.function.arguments or "")
