"""Train a demo model for six steps twice, once with an interruption; print the digests of both.

    python tests/scripts/resumed_training.py DIRECTORY

It runs in an engine's environment, which has torch, with `scripts` on its path.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from programs.demo_model import training
from programs.demo_model.corpus import Corpus
from programs.demo_model.progress import Progress
from programs.demo_model.questions import read_items
from tokenizers import Tokenizer

HOME = Path(__file__).resolve().parents[2] / "deploy" / "demo-model"
STEPS = 6


class Interrupted(Exception):
    """The training ends here."""


def digest_after(file: Path, most_batches: int = STEPS) -> str:
    """Train, go on where `file` is, and return the digest of the weights."""
    seed = training.fix_randomness()
    items = read_items(HOME / "questions.jsonl")
    tokenizer = Tokenizer.from_file(str(HOME / "tokenizer.json"))
    model = training.new_model(training.model_config(tokenizer))
    corpus = Corpus(items, tokenizer, seed)
    batches, real = 0, corpus.batch

    def batch() -> Any:
        nonlocal batches
        batches += 1
        if batches > most_batches:
            raise Interrupted
        return real()

    corpus.batch = batch  # type: ignore[method-assign]
    training.train(model, corpus, STEPS, training.PEAK_RATE, Progress(file, steps=STEPS))
    weights = b"".join(each.detach().numpy().tobytes() for each in model.parameters())
    return hashlib.sha256(weights).hexdigest()


def main(directory: Path) -> None:
    training.EVERY_STEPS = 2
    whole = digest_after(directory / "whole.pt")
    kept = directory / "interrupted.pt"
    try:
        digest_after(kept, most_batches=5)
    except Interrupted:
        sys.stdout.write(f"{whole} {digest_after(kept)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
