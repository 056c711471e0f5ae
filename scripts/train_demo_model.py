"""Train the demo model of deploy/demo-model from the questions and answers beside it, and on
conversations with tools and JSON that scripts/programs/demo_model makes up.

    python scripts/train_demo_model.py            train, write, then check every answer
    python scripts/train_demo_model.py --check    check the model that is there

Runs in an engine environment (torch, transformers, tokenizers, safetensors), on two CPU cores.
The same torch on the same kind of CPU gives the same bytes.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import torch
from programs.demo_model.checking import check
from programs.demo_model.conversations import Talker
from programs.demo_model.corpus import Corpus
from programs.demo_model.questions import Item, read_items
from programs.demo_model.tokenizer import train_tokenizer, write_tokenizer
from programs.demo_model.training import (
    THREADS,
    fix_randomness,
    model_config,
    new_model,
    train,
    write_model,
)

HOME = Path(__file__).resolve().parent.parent / "deploy" / "demo-model"
QUESTIONS = HOME / "questions.jsonl"
#: Conversations that the tokenizer learns from beside the questions.
SAMPLES = 400


def make(folder: Path, items: list[Item]) -> None:
    """Train a tokenizer and a model and write both into `folder`."""
    seed = fix_randomness()
    texts = [text for item in items for text in (*item.questions, item.answer)]
    tokenizer = train_tokenizer(texts + Talker(items, random.Random(seed)).samples(SAMPLES))
    config = model_config(tokenizer)
    model = new_model(config)
    print(f"{model.num_parameters():,} parameters, {tokenizer.get_vocab_size()} tokens")
    train(model, Corpus(items, tokenizer, seed))
    write_tokenizer(folder, tokenizer)
    write_model(folder, model, config, QUESTIONS)


def main() -> int:
    parser = argparse.ArgumentParser(description="Train or check the demo model.")
    parser.add_argument("--check", action="store_true", help="check only, train nothing")
    parser.add_argument("--wrong", action="store_true", help="show what goes not as taught")
    parser.add_argument("--folder", type=Path, default=HOME, help="where the model is or goes")
    arguments = parser.parse_args()
    items = read_items(QUESTIONS)
    if not arguments.check:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        make(arguments.folder, items)
    torch.set_num_threads(THREADS)
    if not check(arguments.folder, items, tells_wrong=arguments.wrong):
        print("error: the model does not answer exactly what it was taught", file=sys.stderr)
        return 1
    print("every trained question is answered exactly")
    return 0


if __name__ == "__main__":
    sys.exit(main())
