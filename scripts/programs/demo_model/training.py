"""The model, and its training."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from typing import Final

import torch
from programs.demo_model.corpus import Batch, Corpus
from programs.demo_model.tokenizer import CONTEXT, END, END_OF_TEXT, write_json
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Qwen2Config, Qwen2ForCausalLM

THREADS: Final = 1
_SEED: Final = 20
_STEPS: Final = 3000
_PEAK_RATE: Final = 2.5e-3
_WARMUP_STEPS: Final = 100


def fix_randomness() -> int:
    """Make all that follows depend on nothing but the code, torch and the kind of CPU. Return the
    seed."""
    torch.manual_seed(_SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    return _SEED


def model_config(tokenizer: Tokenizer) -> dict[str, object]:
    """config.json. Keys are those that transformers 4 and 5 both read."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 192,
        "intermediate_size": 448,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "num_key_value_heads": 3,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "initializer_range": 0.02,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "use_cache": True,
        "use_sliding_window": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.token_to_id(END),
        "pad_token_id": tokenizer.token_to_id(END_OF_TEXT),
        "torch_dtype": "bfloat16",
    }


def new_model(config: dict[str, object]) -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM(Qwen2Config(**config))


def train(model: Qwen2ForCausalLM, corpus: Corpus) -> None:
    """Change `model` in place, in _STEPS steps; says how it goes."""
    optimizer = torch.optim.AdamW(model.parameters(), _PEAK_RATE, (0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate_at)
    model.train()
    began_s = time.monotonic()
    for step in range(1, _STEPS + 1):
        optimizer.zero_grad()
        loss = _loss_of(model, corpus.batch())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == _STEPS:
            left_s = (time.monotonic() - began_s) / step * (_STEPS - step)
            print(f"step {step}/{_STEPS}  loss {loss.item():.4f}  {left_s:.0f} s left", flush=True)


def _loss_of(model: Qwen2ForCausalLM, batch: Batch) -> Tensor:
    """The weighted mean of the cross entropy, in nats per token; no document sees another."""
    tokens, weights, document = batch
    same = document[:, None, :, None] == document[:, None, None, :]
    causal = torch.ones(same.shape[-2:], dtype=torch.bool).tril()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens, attention_mask=same & causal).logits[:, :-1].float()
    losses = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    counted = torch.where(document[:, 1:] == document[:, :-1], weights[:, 1:], 0.0).flatten()
    return (losses * counted).sum() / counted.sum()


def _rate_at(step: int) -> float:
    """The share of the peak learning rate: up in a line, then down along a cosine to zero."""
    if step < _WARMUP_STEPS:
        return (step + 1) / _WARMUP_STEPS
    done = (step - _WARMUP_STEPS) / (_STEPS - _WARMUP_STEPS)
    return (1 + math.cos(math.pi * done)) / 2


def write_model(
    folder: Path, model: Qwen2ForCausalLM, config: dict[str, object], questions: Path
) -> None:
    """Weights as bfloat16, and how to run them. Sampling is nearly greedy unless asked."""
    state = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    tensors = {name: value.to(torch.bfloat16).contiguous() for name, value in state.items()}
    digest = hashlib.sha256(questions.read_bytes()).hexdigest()
    about = {"format": "pt", "questions_sha256": digest}
    save_file(tensors, folder / "model.safetensors", about)
    write_json(folder / "config.json", config)
    generation = {
        "do_sample": True,
        "temperature": 0.01,
        "eos_token_id": [config["eos_token_id"], config["pad_token_id"]],
        "pad_token_id": config["pad_token_id"],
    }
    write_json(folder / "generation_config.json", generation)
