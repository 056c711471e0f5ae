"""Writes tiny checkpoints of random weights, the same each time, of the kinds that vLLM pools.

    python tests/engines/pooling/checkpoints.py DIRECTORY

It runs in an engine's environment, which has torch and transformers. Each model is a BERT of two
layers over a vocabulary of bytes and a few words:

* `embedder`: a vector of 64 numbers for each text; it may be cut to 8, 16 or 32 (Matryoshka);
* `reranker`: one score for a pair of texts (a cross-encoder);
* `classifier`: one of three labels for a text;
* `tagger`: one of three labels for each token.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LABELS = {0: "calm", 1: "glad", 2: "cross"}


def write_all(directory: Path) -> None:
    """Write every checkpoint, each in a folder of its name."""
    import torch
    from transformers import (
        BertForSequenceClassification,
        BertForTokenClassification,
        BertModel,
    )

    three = {"id2label": LABELS, "label2id": {name: i for i, name in LABELS.items()}}
    cut: dict[str, Any] = {
        "is_matryoshka": True,
        "matryoshka_dimensions": [8, 16, 32, 64],
        "task_instructions": {"query": "ask: ", "document": "told: "},
    }
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "embedder": (BertModel, cut),
        "reranker": (BertForSequenceClassification, {"num_labels": 1}),
        "classifier": (BertForSequenceClassification, three),
        "tagger": (BertForTokenClassification, three),
    }
    for name, (kind, more) in kinds.items():
        torch.manual_seed(0)
        model = kind(_config(more))
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
        model.save_pretrained(directory / name)
        _write_tokenizer(directory / name)


def _config(more: dict[str, Any]) -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        **more,
    )


def _vocabulary() -> dict[str, int]:
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    pieces = [*WORDS, *letters, *(f"##{letter}" for letter in letters)]
    return {piece: number for number, piece in enumerate(pieces)}


def _write_tokenizer(directory: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pad, unknown, first, separator, mask = WORDS
    vocabulary = _vocabulary()
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {separator}",
        pair=f"{first} $A {separator} $B:1 {separator}:1",
        special_tokens=[(each, vocabulary[each]) for each in (first, separator)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=128,
        pad_token=pad,
        unk_token=unknown,
        cls_token=first,
        sep_token=separator,
        mask_token=mask,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(directory)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
