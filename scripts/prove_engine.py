"""Proves that an engine's environment works. Runs inside of it, on Python >= 3.10:

    ENV/bin/python scripts/prove_engine.py LIBRARY DISTRIBUTION DEVICE [--model DIRECTORY]
        [--imports MODULE ...] [--options JSON]

The last line of its output is a JSON object: `versions`, `device`, and `text`, some words that
the model generated, or `problem`, why it could not.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import platform
from typing import Any

WORKER_NEEDS = ("hiredis", "msgspec", "pydantic_settings", "redis", "uvloop")
PROMPT = "What is ew?"


def versions(distribution: str) -> dict[str, str]:
    names = (distribution, "torch", "transformers", "redis", "msgspec")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device(library: str, kind: str) -> str:
    """Return what the engine will run on; empty if it sees no device of this kind."""
    if kind == "cuda":
        import torch

        count = torch.cuda.device_count()
        return ", ".join(torch.cuda.get_device_name(index) for index in range(count))
    if library == "vllm":
        from vllm.platforms import current_platform

        return "cpu" if current_platform.is_cpu() else ""
    return "cpu"


def generate(library: str, model: str, options: dict[str, Any]) -> str:
    """Return a few words by a small model: by the library's class `LLM`, as most call it, or
    `Engine`."""
    engine: Any = importlib.import_module(library)
    if hasattr(engine, "LLM"):
        llm = engine.LLM(model=model, **options)
        answers = llm.generate([PROMPT], engine.SamplingParams(max_tokens=8, temperature=0.0))
        return str(answers[0].outputs[0].text)
    llm = engine.Engine(model_path=model, **options)
    answer = llm.generate(PROMPT, {"max_new_tokens": 8, "temperature": 0.0})
    llm.shutdown()
    return str(answer["text"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("distribution")
    parser.add_argument("device")
    parser.add_argument("--model")
    parser.add_argument("--imports", nargs="*", default=[])
    parser.add_argument("--options", type=json.loads, default={})
    options = parser.parse_args()
    # The imports of a worker; here they are compiled once for all later starts.
    for name in (*WORKER_NEEDS, options.library, *options.imports):
        importlib.import_module(name)
    report: dict[str, Any] = {
        "versions": versions(options.distribution),
        "device": device(options.library, options.device),
    }
    if options.model and report["device"]:
        try:
            report["text"] = generate(options.library, options.model, options.options)
        except Exception as error:
            report["problem"] = f"{type(error).__name__}: {error}"
    print(f"\n{json.dumps(report)}")


if __name__ == "__main__":
    main()
