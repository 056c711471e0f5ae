"""The tokenizer, and its chat template."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as splitters
from transformers import PreTrainedTokenizerFast

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
#: Parsers read these, so they are text that decoding does not skip.
THINK, THOUGHT = "<think>", "</think>"
CALL, CALLED = "<tool_call>", "</tool_call>"
CONTEXT: Final = 2048
CHAT_TEMPLATE: Final = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")
_VOCABULARY: Final = 1024
#: As Qwen2 splits text, so that its tokenizer class of any transformers release agrees.
_SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Byte-level BPE. It learns from ASCII only, so other characters stay split over tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = splitters.Split(Regex(_SPLIT), behavior="isolated")
    bytewise = splitters.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = splitters.Sequence([split, bytewise])
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(text, special=True) for text in (END_OF_TEXT, START, END)]
    marks = [AddedToken(text, normalized=False) for text in (THINK, THOUGHT, CALL, CALLED)]
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY - len(marks),
        special_tokens=special,
        initial_alphabet=sorted(splitters.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((_ascii(text) for text in texts), trainer)
    tokenizer.add_tokens(marks)
    return tokenizer


def as_transformers(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The same with the chat template."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHAT_TEMPLATE)


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "model_max_length": CONTEXT,
        "add_prefix_space": False,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": None,
        "unk_token": None,
        "eos_token": END,
        "pad_token": END_OF_TEXT,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(folder / "tokenizer_config.json", settings)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _ascii(text: str) -> str:
    return text.encode("ascii", "ignore").decode()
