"""Writes a tiny model that takes images: the shape of Idefics3 with random weights, and the demo
model's tokenizer. It needs transformers: `python vision_model.py DEMO OUT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_IMAGE = "<image>"
_SPECIAL = (_IMAGE, "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
_SIZE, _PATCH = 28, 14
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% elif part.text is defined %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def main(demo: Path, out: Path) -> None:
    """Write the model to `out`."""
    import torch
    from transformers import (
        AutoTokenizer,
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        LlamaConfig,
    )

    tokenizer: Any = AutoTokenizer.from_pretrained(demo)
    tokenizer.add_special_tokens({"additional_special_tokens": list(_SPECIAL)})
    tokenizer.chat_template = _TEMPLATE
    text = LlamaConfig(
        vocab_size=len(tokenizer) + (-len(tokenizer)) % 64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": _SIZE,
        "patch_size": _PATCH,
    }
    config = Idefics3Config(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids(_IMAGE),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=1,
        tie_word_embeddings=False,
    )
    torch.manual_seed(1)
    model = Idefics3ForConditionalGeneration(config)
    for parameter in model.parameters():
        # Large enough that every image has an answer of its own.
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    images = {
        "image_processor_type": "Idefics3ImageProcessor",
        "processor_class": "Idefics3Processor",
        "do_image_splitting": False,
        "size": {"longest_edge": _SIZE},
        "max_image_size": {"longest_edge": _SIZE},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (out / "preprocessor_config.json").write_text(json.dumps(images))
    processor = {"processor_class": "Idefics3Processor", "image_seq_len": (_SIZE // _PATCH) ** 2}
    (out / "processor_config.json").write_text(json.dumps(processor))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
