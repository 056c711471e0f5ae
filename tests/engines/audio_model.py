"""Writes a tiny model that hears sounds in chats: the shape of Qwen2-Audio with random weights, and
the demo model's tokenizer. It needs transformers: `python audio_model.py DEMO OUT`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

_SOUND = "<|AUDIO|>"
_SPECIAL = (_SOUND, "<|audio_bos|>", "<|audio_eos|>")
#: vLLM takes no other length.
_HEARS_S = 30
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif part.text is defined %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def main(demo: Path, out: Path) -> None:
    """Write the model to `out`."""
    import torch
    from transformers import (
        AutoTokenizer,
        Qwen2AudioConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    tokenizer: Any = AutoTokenizer.from_pretrained(demo)
    tokenizer.add_special_tokens({"additional_special_tokens": list(_SPECIAL)})
    tokenizer.chat_template = _TEMPLATE
    text = {
        "model_type": "qwen2",
        "vocab_size": len(tokenizer) + (-len(tokenizer)) % 64,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    hearing = {
        "d_model": 32,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "num_mel_bins": 80,
        "max_source_positions": _HEARS_S * 50,
    }
    config = Qwen2AudioConfig(
        text_config=text,
        audio_config=hearing,
        audio_token_index=tokenizer.convert_tokens_to_ids(_SOUND),
    )
    torch.manual_seed(1)
    model = Qwen2AudioForConditionalGeneration(config)
    for parameter in model.parameters():
        # Large enough that every sound has an answer of its own.
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.to(torch.bfloat16).save_pretrained(out)
    _name_as_published(out / "model.safetensors")
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=_HEARS_S)
    Qwen2AudioProcessor(extractor, tokenizer, chat_template=_TEMPLATE).save_pretrained(out)


def _name_as_published(file: Path) -> None:
    """Transformers 5.19 writes `language_model.model.model.`, and no published checkpoint does."""
    from safetensors.torch import load_file, save_file

    saved = load_file(file)
    wrong, right = "language_model.model.model.", "language_model.model."
    save_file({name.replace(wrong, right): each for name, each in saved.items()}, file)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
