"""The model, and its training."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from typing import Final

import torch
from programs.demo_model.corpus import Batch, Corpus
from programs.demo_model.progress import EVERY_STEPS, Progress
from programs.demo_model.tokenizer import CONTEXT, END, END_OF_TEXT, write_json
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Qwen2Config, Qwen2ForCausalLM

THREADS: Final = 1
_SEED: Final = 20
STEPS: Final = 3000
#: Of a new model, and of one that is there.
PEAK_RATE: Final = 2.5e-3
LATER_PEAK_RATE: Final = 3e-4
_WARMUP_STEPS: Final = 100


def fix_randomness() -> int:
    """Make all that follows depend on nothing but the code, torch and the kind of CPU; on a GPU
    attention still adds up in any order. Return the seed."""
    torch.manual_seed(_SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True, warn_only=True)
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


def present_model(folder: Path) -> Qwen2ForCausalLM:
    """Read the model that is in `folder`, to go on with."""
    model: Qwen2ForCausalLM = Qwen2ForCausalLM.from_pretrained(folder)
    return model.float()


def train(
    model: Qwen2ForCausalLM, corpus: Corpus, steps: int, peak_rate: float, progress: Progress
) -> None:
    """Change `model` in place, where it is; says how it goes. What `progress` has of this training
    is not done again."""
    optimizer = torch.optim.AdamW(model.parameters(), peak_rate, (0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate_at(step, steps))
    parts = (model, optimizer, schedule)
    model.train()
    done = progress.load(*parts)
    for _ in range(done):
        # The corpus is the same each time: the part that was learned before is passed over.
        corpus.batch()
    began_s = time.monotonic()
    for step in range(done + 1, steps + 1):
        optimizer.zero_grad()
        loss = _loss_of(model, corpus.batch())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            left_s = (time.monotonic() - began_s) / (step - done) * (steps - step)
            print(f"step {step}/{steps}  loss {loss.item():.4f}  {left_s:.0f} s left", flush=True)
        if step % EVERY_STEPS == 0:
            progress.save(step, *parts)


def _loss_of(model: Qwen2ForCausalLM, batch: Batch) -> Tensor:
    """The weighted mean of the cross entropy, in nats per token; no document sees another."""
    tokens, weights, document = (each.to(model.device) for each in batch)
    same = document[:, None, :, None] == document[:, None, None, :]
    causal = torch.ones(same.shape[-2:], dtype=torch.bool, device=model.device).tril()
    with torch.autocast(model.device.type, torch.bfloat16):
        logits = model(tokens, attention_mask=same & causal).logits[:, :-1].float()
    losses = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    counted = torch.where(document[:, 1:] == document[:, :-1], weights[:, 1:], 0.0).flatten()
    return (losses * counted).sum() / counted.sum()


def _rate_at(step: int, steps: int) -> float:
    """Return the share of the peak learning rate: up in a line, then down along a cosine to
    zero."""
    warmup = min(_WARMUP_STEPS, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return (1 + math.cos(math.pi * done)) / 2


def write_model(
    folder: Path, model: Qwen2ForCausalLM, config: dict[str, object], questions: Path
) -> None:
    """Weights as bfloat16, and how to run them. Sampling is nearly greedy unless asked."""
    state = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    tensors = {name: value.to(torch.bfloat16).cpu().contiguous() for name, value in state.items()}
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
