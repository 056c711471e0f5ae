"""Train the demo model of deploy/demo-model from the questions and answers beside it.

    python scripts/train_demo_model.py            train, write, then check every answer
    python scripts/train_demo_model.py --check    check the model that is there

Runs in an engine environment (torch, transformers, tokenizers, safetensors), on two CPU cores.
The same torch on the same kind of CPU gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as splitters
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
)

HOME = Path(__file__).resolve().parent.parent / "deploy" / "demo-model"
QUESTIONS = HOME / "questions.jsonl"
END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VOCABULARY = 1024
CONTEXT = 2048

SEED = 20
THREADS = 2
STEPS = 2000
ROWS, ROW_LENGTH = 4, 640
PEAK_RATE, WARMUP_STEPS = 3e-3, 50
#: How much a token that is not part of an answer counts in the loss.
PROMPT_WEIGHT = 0.02
#: Shares of questions asked in other words, and of documents without the chat template.
VARIED, PLAIN = 0.3, 0.2
#: The right token must lead every other by this much (in logits) at each step of an answer.
LEAST_MARGIN = 1.0

SYSTEM_PROMPTS = ("You are a helpful assistant.", "Answer briefly.", "You are a helpful AI.")
OPENINGS = ("Hi, ", "Hello! ", "Please tell me: ", "Excuse me, ", "Quick question: ")
ENDINGS = (" please.", ", please?", " exactly?", " in ew?", " now?", " really?")
REWORDINGS = {
    "How do I ": ("How can I ", "How to ", "How would I ", "Tell me how to "),
    "What is ": ("What's ", "What exactly is ", "Please explain what is ", "Tell me about "),
    "What does ": ("Tell me what does ", "And what does "),
    "What happens when ": ("What happens if ", "What if ", "Tell me what happens when "),
    "Who ": ("Tell me who ", "And who "),
    "Where ": ("Tell me where ", "And where "),
    "Which ": ("Tell me which ", "And which "),
    "Explain ": ("Please explain ", "Can you explain "),
    "Can I ": ("Could I ", "Is it possible to ", "May I "),
    "Do I need ": ("Must I have ", "Do you need "),
}

#: As Qwen2 splits text, so that its tokenizer class of any transformers release agrees.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Item(NamedTuple):
    """An answer, and the ways to ask for it; the first is the question as the file gives it."""

    questions: list[str]
    answer: str


class Token(NamedTuple):
    """A token for training: what it counts in the loss, and its document within the row."""

    id: int
    weight: float
    document: int = 0


class Batch(NamedTuple):
    """Packed documents: the fields of `Token`, each as (ROWS, ROW_LENGTH)."""

    tokens: Tensor
    weights: Tensor
    document: Tensor


class Finding(NamedTuple):
    """How a model does on one prompt: the least lead of a right token over all others, in
    logits. Above 0, greedy decoding gives the answer from every prefix of it."""

    prompt: str
    margin: float


def read_items(path: Path) -> list[Item]:
    """The trained questions and answers; the last one is for everything else."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Item([line["question"], *line["paraphrases"]], line["answer"]) for line in lines]


def train_tokenizer(items: list[Item]) -> Tokenizer:
    """Byte-level BPE. It learns from ASCII only, so other characters stay split over tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = splitters.Split(Regex(SPLIT), behavior="isolated")
    bytewise = splitters.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = splitters.Sequence([split, bytewise])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(text, special=True) for text in (END_OF_TEXT, START, END)],
        initial_alphabet=sorted(splitters.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [text for item in items for text in (*item.questions, item.answer)]
    tokenizer.train_from_iterator((_ascii(text) for text in texts), trainer)
    return tokenizer


def _ascii(text: str) -> str:
    return text.encode("ascii", "ignore").decode()


class Asker:
    """Asks for an answer in one of the many ways that people type."""

    def __init__(self, unknown: Item, chance: random.Random) -> None:
        self._unknown = unknown
        self._chance = chance
        self._words = [word.strip(".,?!") for text in unknown.questions for word in text.split()]

    def ask(self, item: Item) -> str:
        asked = self._chance.choice(item.questions)
        if item is self._unknown and self._chance.random() < 0.4:
            asked = self._something_new()
        return self._vary(asked) if self._chance.random() < VARIED else asked

    def _something_new(self) -> str:
        """A question that nobody taught: parts of unknown ones, sometimes very many."""
        parts = self._chance.choices(self._unknown.questions, k=self._chance.choice((2, 2, 2, 20)))
        words = [word for part in parts for word in self._some_words(part)]
        return " ".join([*words, self._new_word()] if self._chance.random() < 0.3 else words)

    def _some_words(self, text: str) -> list[str]:
        words = text.split()
        cut = self._chance.randint(1, len(words))
        return words[:cut] if self._chance.random() < 0.5 else words[-cut:]

    def _new_word(self) -> str:
        first, second = self._chance.choices(self._words, k=2)
        return first[: len(first) // 2 + 1].lower() + second[len(second) // 2 :]

    def _vary(self, text: str) -> str:
        """The same question in other words, or as a hurried person types it."""
        match self._chance.randrange(6):
            case 0:
                return text.lower()
            case 1:
                return text.lower().rstrip(".?!")
            case 2:
                return self._chance.choice(OPENINGS) + text[0].lower() + text[1:]
            case 3:
                return text.rstrip(".?!") + self._chance.choice(ENDINGS)
            case 4:
                at = self._chance.randrange(len(text))
                return text[:at] + text[at + 1 :]
            case _:
                return self._reword(text)

    def _reword(self, text: str) -> str:
        for words, others in REWORDINGS.items():
            if text.startswith(words):
                return self._chance.choice(others) + text[len(words) :]
        return text.rstrip(".?!")


class Corpus:
    """An endless, seeded supply of documents: conversations of one to three turns."""

    def __init__(self, items: list[Item], tokenizer: Tokenizer, seed: int) -> None:
        self._items = items
        self._tokenizer = tokenizer
        self._chance = random.Random(seed)
        self._asker = Asker(items[-1], self._chance)
        self._shares = [1 + len(item.answer) / 2000 + len(item.questions) / 6 for item in items]
        self._cut: list[Token] = []

    def batch(self) -> Batch:
        """The next ROWS x ROW_LENGTH tokens."""
        rows = [zip(*self._row(), strict=True) for _ in range(ROWS)]
        return Batch(*(torch.tensor(column) for column in zip(*rows, strict=True)))

    def _row(self) -> list[Token]:
        """Documents one after the other. What the end cuts off begins the next row as a whole."""
        row: list[Token] = []
        for number in count():
            document = self._cut or [token for piece in self._document() for token in piece]
            fits = not row or len(row) + len(document) <= ROW_LENGTH
            self._cut = [] if fits else document
            row += [token._replace(document=number) for token in document]
            if len(row) >= ROW_LENGTH:
                break
        return row[:ROW_LENGTH]

    def _document(self) -> Iterator[list[Token]]:
        if self._chance.random() < PLAIN:
            yield from self._plain()
            return
        if self._chance.random() < 0.2:
            yield self._tokens(turn("system", self._chance.choice(SYSTEM_PROMPTS)), 0)
        for _ in range(self._chance.choice((1, 1, 1, 2, 3))):
            yield from self._exchange()

    def _plain(self) -> Iterator[list[Token]]:
        """A question without the chat template; its answer ends the text."""
        item = self._item()
        yield self._tokens(self._asker.ask(item), 0)
        yield self._tokens("\n", 1)
        yield self._tokens(item.answer + END_OF_TEXT, 1)

    def _exchange(self) -> Iterator[list[Token]]:
        item = self._item()
        question = turn("user", self._asker.ask(item)) + f"{START}assistant\n"
        yield self._tokens(question, PROMPT_WEIGHT)
        yield self._tokens(item.answer + END, 1)
        yield self._tokens("\n", PROMPT_WEIGHT)

    def _item(self) -> Item:
        return self._chance.choices(self._items, self._shares)[0]

    def _tokens(self, text: str, weight: float) -> list[Token]:
        return [Token(id, weight) for id in self._tokenizer.encode(text).ids]


def turn(role: str, content: str) -> str:
    """One turn of a conversation, as the chat template writes it."""
    return f"{START}{role}\n{content}{END}\n"


def model_config(tokenizer: Tokenizer) -> dict[str, object]:
    """config.json. Keys are those that transformers 4 and 5 both read."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
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


def loss_of(model: Qwen2ForCausalLM, batch: Batch) -> Tensor:
    """The weighted mean of the cross entropy, in nats per token; no document sees another."""
    tokens, weights, document = batch
    same = document[:, None, :, None] == document[:, None, None, :]
    causal = torch.ones(same.shape[-2:], dtype=torch.bool).tril()
    logits = model(tokens, attention_mask=same & causal).logits[:, :-1]
    losses = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    counted = torch.where(document[:, 1:] == document[:, :-1], weights[:, 1:], 0.0).flatten()
    return (losses * counted).sum() / counted.sum()


def rate_at(step: int) -> float:
    """The share of the peak learning rate: up in a line, then down along a cosine to zero."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    done = (step - WARMUP_STEPS) / (STEPS - WARMUP_STEPS)
    return (1 + math.cos(math.pi * done)) / 2


def train(model: Qwen2ForCausalLM, corpus: Corpus) -> None:
    """Change `model` in place, in STEPS steps; says how it goes."""
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_RATE, (0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_at)
    model.train()
    began_s = time.monotonic()
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        loss = loss_of(model, corpus.batch())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == STEPS:
            left_s = (time.monotonic() - began_s) / step * (STEPS - step)
            print(f"step {step}/{STEPS}  loss {loss.item():.4f}  {left_s:.0f} s left", flush=True)


def fix_randomness() -> None:
    """Make everything after this depend on nothing but the code, torch and the kind of CPU."""
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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


def write_model(folder: Path, model: Qwen2ForCausalLM, config: dict[str, object]) -> None:
    """Weights as bfloat16, and how to run them. Sampling is nearly greedy unless asked."""
    state = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    tensors = {name: value.to(torch.bfloat16).contiguous() for name, value in state.items()}
    digest = hashlib.sha256(QUESTIONS.read_bytes()).hexdigest()
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


def make(folder: Path, items: list[Item]) -> None:
    """Train a tokenizer and a model and write both into `folder`."""
    fix_randomness()
    tokenizer = train_tokenizer(items)
    config = model_config(tokenizer)
    model = Qwen2ForCausalLM(Qwen2Config(**config))
    print(f"{model.num_parameters():,} parameters, {tokenizer.get_vocab_size()} tokens")
    train(model, Corpus(items, tokenizer, SEED))
    write_tokenizer(folder, tokenizer)
    write_model(folder, model, config)


class Checker:
    """Asks the model in a folder every trained question, computing in one dtype."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder)
        self._model = model.to(dtype).eval()

    def findings(self, items: list[Item]) -> Iterator[Finding]:
        """One finding for every question, as a chat and as plain text."""
        for item in items:
            for question in item.questions:
                yield Finding(question, self._margin(self._chat(question), item.answer + END))
                plain = self._tokenizer.encode(question + "\n")
                yield Finding(question + "\n", self._margin(plain, item.answer + END_OF_TEXT))

    def wrong(self, items: list[Item]) -> Iterator[str]:
        """The questions whose answer, decoded greedily token by token, is not exact."""
        for item in items:
            if self._answer(item.questions[0]) != item.answer:
                yield item.questions[0]

    def _chat(self, question: str) -> list[int]:
        messages = [{"role": "user", "content": question}]
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return self._tokenizer.encode(text)

    @torch.inference_mode()
    def _margin(self, prompt: list[int], answer: str) -> float:
        wanted = torch.tensor(self._tokenizer.encode(answer))[:, None]
        tokens = torch.tensor([prompt + wanted[:, 0].tolist()])
        logits = self._model(tokens).logits[0, len(prompt) - 1 : -1].float()
        right = logits.gather(1, wanted)
        others = logits.scatter(1, wanted, -math.inf)
        return (right[:, 0] - others.amax(1)).min().item()

    @torch.inference_mode()
    def _answer(self, question: str) -> str:
        prompt = self._chat(question)
        ends = self._tokenizer.convert_tokens_to_ids([END, END_OF_TEXT])
        greedy = GenerationConfig(
            do_sample=False, max_new_tokens=1024, eos_token_id=ends, pad_token_id=ends[1]
        )
        tokens = torch.tensor([prompt])
        made = self._model.generate(
            tokens, attention_mask=torch.ones_like(tokens), generation_config=greedy
        )
        return self._tokenizer.decode(made[0, len(prompt) :], skip_special_tokens=True)


def check(folder: Path, items: list[Item]) -> bool:
    """Whether every trained question gets its exact answer, in each dtype that engines use."""
    torch.set_num_threads(THREADS)
    good = True
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        checker = Checker(folder, dtype)
        findings = list(checker.findings(items))
        weak = [finding for finding in findings if finding.margin < LEAST_MARGIN]
        wrong = list(checker.wrong(items))
        least = min(finding.margin for finding in findings)
        print(f"{dtype}: {len(findings)} prompts, least margin {least:.2f} logits")
        for finding in weak:
            print(f"  too weak ({finding.margin:.2f}): {finding.prompt!r}", file=sys.stderr)
        for question in wrong:
            print(f"  wrong: {question!r}", file=sys.stderr)
        good = good and not weak and not wrong
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description="Train or check the demo model.")
    parser.add_argument("--check", action="store_true", help="check only, train nothing")
    parser.add_argument("--folder", type=Path, default=HOME, help="where the model is or goes")
    arguments = parser.parse_args()
    items = read_items(QUESTIONS)
    if not arguments.check:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        make(arguments.folder, items)
    if not check(arguments.folder, items):
        print("error: the model does not answer exactly what it was taught", file=sys.stderr)
        return 1
    print("every trained question is answered exactly")
    return 0


if __name__ == "__main__":
    sys.exit(main())
