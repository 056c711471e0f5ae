"""Guided decoding with xgrammar, as in the real library."""

from __future__ import annotations

import json
from typing import Any

import torch
import xgrammar


class Guides:
    """Compiles what requests are constrained by. Raises `RuntimeError` if it cannot be."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary)
        self._compiler = xgrammar.GrammarCompiler(info)
        self._vocabulary = vocabulary

    def guide(self, params: Any) -> Guide:
        if params.json_object:
            compiled = self._compiler.compile_builtin_json_grammar()
        elif params.json is not None:
            schema = params.json if isinstance(params.json, str) else json.dumps(params.json)
            compiled = self._compiler.compile_json_schema(schema)
        elif params.regex is not None:
            compiled = self._compiler.compile_regex(params.regex)
        elif params.structural_tag is not None:
            compiled = self._compiler.compile_structural_tag(params.structural_tag)
        else:
            compiled = self._compiler.compile_grammar(params.grammar)
        return Guide(xgrammar.GrammarMatcher(compiled), self._vocabulary)


class Guide:
    """The constraint on one request."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher = matcher
        self._bits = xgrammar.allocate_token_bitmask(1, vocabulary)

    def mask(self, logits: torch.Tensor) -> None:
        self._matcher.fill_next_token_bitmask(self._bits)
        xgrammar.apply_token_bitmask_inplace(logits, self._bits[0])

    def accept(self, token_id: int) -> None:
        self._matcher.accept_token(token_id)
