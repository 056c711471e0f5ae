"""Writes a tiny model that writes down speech: Whisper's shape with random weights, which hears
two seconds at once. It needs transformers: `python speech_model.py DEMO OUT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_CLIP_S = 2
_MARKS = [f"<|{number * 0.02:.2f}|>" for number in range(_CLIP_S * 50 + 1)]


def main(demo: Path, out: Path) -> None:
    """Write the model to `out`."""
    import torch
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizerFast,
    )
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    read = json.loads((demo / "tokenizer.json").read_text())["model"]
    merges = [tuple(each.split(" ") if isinstance(each, str) else each) for each in read["merges"]]
    tokenizer: Any = WhisperTokenizerFast(vocab=read["vocab"], merges=merges)
    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{language}|>" for language in LANGUAGES),
        *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|prev|>", "<|nospeech|>"),
        "<|notimestamps|>",
    ]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens(_MARKS)
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    config = WhisperConfig(
        vocab_size=len(tokenizer) + (-len(tokenizer)) % 64,
        d_model=64,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        num_mel_bins=80,
        max_source_positions=_CLIP_S * 50,
        max_target_positions=64,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
        eos_token_id=end,
        pad_token_id=end,
        bos_token_id=end,
    )
    torch.manual_seed(1)
    model = WhisperForConditionalGeneration(config)
    for parameter in model.parameters():
        # Large enough that what it hears decides what it writes.
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.to(torch.bfloat16).save_pretrained(out)
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=_CLIP_S)
    WhisperProcessor(extractor, tokenizer).save_pretrained(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
