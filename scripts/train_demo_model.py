"""Train the demo model of deploy/demo-model from the questions and answers beside it, and on
conversations with tools and JSON that scripts/programs/demo_model makes up.

    python scripts/train_demo_model.py            train, write, then check every answer
    python scripts/train_demo_model.py --check    check the model that is there
    python scripts/train_demo_model.py --go-on --steps 400
                                                  train that one on, after a small change

Runs in an engine environment (torch, transformers, tokenizers, safetensors), on a CPU core or, with
`--device cuda`, on a GPU. The same torch on the same kind of CPU gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from pathlib import Path

import torch
from programs.demo_model.checking import check
from programs.demo_model.conversations import Talker
from programs.demo_model.corpus import Corpus
from programs.demo_model.progress import Progress
from programs.demo_model.questions import Item, read_items
from programs.demo_model.tokenizer import train_tokenizer, write_tokenizer
from programs.demo_model.training import (
    LATER_PEAK_RATE,
    PEAK_RATE,
    STEPS,
    THREADS,
    fix_randomness,
    model_config,
    new_model,
    present_model,
    train,
    write_model,
)
from tokenizers import Tokenizer

HOME = Path(__file__).resolve().parent.parent / "deploy" / "demo-model"
PROGRESS = HOME.parent.parent / ".ew" / "demo-model-training.pt"
QUESTIONS = HOME / "questions.jsonl"
#: Conversations that the tokenizer learns from beside the questions.
SAMPLES = 400


def make(folder: Path, items: list[Item], device: str, steps: int, kept: Path) -> None:
    """Train a tokenizer and a model on `device`, and write both into `folder`; how far it is, is in
    the file `kept` until then."""
    seed = fix_randomness()
    texts = [text for item in items for text in (*item.questions, item.answer)]
    tokenizer = train_tokenizer(texts + Talker(items, random.Random(seed)).samples(SAMPLES))
    config = model_config(tokenizer)
    model = new_model(config).to(device)
    print(f"{model.num_parameters():,} parameters, {tokenizer.get_vocab_size()} tokens")
    progress = Progress(kept, anew=True, steps=steps, items=items, rate=PEAK_RATE)
    train(model, Corpus(items, tokenizer, seed), steps, PEAK_RATE, progress)
    write_tokenizer(folder, tokenizer)
    write_model(folder, model, config, QUESTIONS)
    progress.forget()


def go_on(folder: Path, items: list[Item], device: str, steps: int, kept: Path) -> None:
    """Train the model in `folder` on, with the tokenizer that it has."""
    seed = fix_randomness()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = present_model(folder).to(device)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    progress = Progress(kept, of=digest, steps=steps, items=items, rate=LATER_PEAK_RATE)
    train(model, Corpus(items, tokenizer, seed + 1), steps, LATER_PEAK_RATE, progress)
    write_tokenizer(folder, tokenizer)
    write_model(folder, model, model_config(tokenizer), QUESTIONS)
    progress.forget()


def main() -> int:
    parser = argparse.ArgumentParser(description="Train or check the demo model.")
    parser.add_argument("--check", action="store_true", help="check only, train nothing")
    parser.add_argument("--go-on", action="store_true", help="train the model that is there")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of the training ({STEPS})")
    parser.add_argument("--device", default="cpu", help="where to train: cpu (the default), cuda")
    parser.add_argument("--folder", type=Path, default=HOME, help="where the model is or goes")
    parser.add_argument(
        "--progress", type=Path, default=PROGRESS, help="where it is kept how far a training is"
    )
    arguments = parser.parse_args()
    items = read_items(QUESTIONS)
    if not arguments.check:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        work = go_on if arguments.go_on else make
        work(arguments.folder, items, arguments.device, arguments.steps, arguments.progress)
    torch.set_num_threads(THREADS)
    if not check(arguments.folder, items):
        print("error: the model does not say what it was taught", file=sys.stderr)
        return 1
    print("every trained question is answered exactly in a chat")
    return 0


if __name__ == "__main__":
    sys.exit(main())
