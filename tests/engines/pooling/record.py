"""The answers of a real vLLM to requests for pooling, by checkpoint: `answers.json`.

    python -m tests.engines.pooling.record ENGINE_PYTHON

It writes the checkpoints of checkpoints.py, serves each with the `vllm serve` of that Python, one
after the other, and sends REQUESTS. What is there is of vLLM 0.32.0 on a CPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpx

from contract.process.ports import free_port
from tests.engines.pooling.answers import ANSWERS

CHECKPOINTS: Final = Path(__file__).with_name("checkpoints.py")
TEXTS: Final = ["what is it", "abc"]
PAIRS: Final[dict[str, Any]] = {"queries": "what is it", "documents": ["a cat", "a big dog"]}
LONG: Final = "a cat sat on a mat " * 12
CHAT: Final[dict[str, Any]] = {"messages": [{"role": "user", "content": "what is it"}]}
#: By checkpoint: paths, and bodies without the model's name.
REQUESTS: Final[dict[str, list[tuple[str, dict[str, Any]]]]] = {
    "embedder": [
        ("/v1/embeddings", {"input": TEXTS}),
        ("/v1/embeddings", {"input": [5, 6, 7], "encoding_format": "base64"}),
        ("/v1/embeddings", {"input": TEXTS, "dimensions": 8}),
        ("/v1/embeddings", {"input": TEXTS, "dimensions": 9}),
        ("/v1/embeddings", {"input": TEXTS, "use_activation": False}),
        ("/v1/embeddings", {"input": "abc", "add_special_tokens": False}),
        ("/v1/embeddings", {"input": LONG}),
        ("/v1/embeddings", {"input": LONG, "truncate_prompt_tokens": -1}),
        ("/v1/embeddings", {"input": LONG, "truncate_prompt_tokens": 9}),
        ("/v1/embeddings", {"input": LONG, "truncate_prompt_tokens": 9, "truncation_side": "left"}),
        ("/v1/embeddings", CHAT),
        ("/score", PAIRS),
        ("/v1/score", {"text_1": TEXTS, "text_2": ["a cat", "dog"]}),
        ("/v2/rerank", {"query": "what is it", "documents": ["a cat", "a big dog"], "top_n": 1}),
        ("/score", {**PAIRS, "max_tokens_per_doc": 2}),
        ("/pooling", {"input": TEXTS}),
        ("/pooling", {"input": TEXTS, "task": "classify"}),
        ("/pooling", {"input": TEXTS, "task": "token_embed"}),
        (
            "/v2/embed",
            {"texts": TEXTS, "embedding_types": ["float", "binary", "ubinary", "base64"]},
        ),
        ("/v2/embed", {"texts": [LONG], "output_dimension": 8, "truncate": "START"}),
        ("/v2/embed", {"texts": [LONG], "truncate": "NONE"}),
        ("/v2/embed", {"texts": TEXTS, "input_type": "query"}),
        ("/v2/embed", {"texts": TEXTS, "input_type": "unheard of"}),
        ("/tokenize", {"prompt": "what is it"}),
        ("/classify", {"input": TEXTS}),
        ("/v1/completions", {"prompt": "what is it"}),
    ],
    "reranker": [
        ("/score", PAIRS),
        ("/v1/score", {"text_1": TEXTS, "text_2": ["a cat", "dog"]}),
        ("/rerank", {"query": "what is it", "documents": ["a cat", "a big dog"]}),
        ("/score", {**PAIRS, "use_activation": False}),
        ("/score", {**PAIRS, "truncate_prompt_tokens": 6}),
        ("/score", {**PAIRS, "truncate_prompt_tokens": 14}),
        ("/score", {**PAIRS, "truncate_prompt_tokens": 14, "truncation_side": "left"}),
        ("/score", {**PAIRS, "max_tokens_per_doc": 2}),
        ("/score", {**PAIRS, "max_tokens_per_query": 3}),
        ("/score", {"queries": "a", "documents": LONG}),
        ("/score", {"queries": "a", "documents": []}),
        ("/score", {"queries": ["a", "b"], "documents": ["c", "d", "e"]}),
        ("/classify", {"input": TEXTS}),
        ("/pooling", {"input": TEXTS}),
        ("/v1/embeddings", {"input": TEXTS}),
        ("/v1/chat/completions", CHAT),
    ],
    "classifier": [
        ("/classify", {"input": TEXTS}),
        ("/classify", {"input": "abc", "use_activation": False}),
        ("/classify", CHAT),
        ("/classify", {"input": []}),
        ("/pooling", {"input": TEXTS}),
        ("/pooling", {"input": TEXTS, "encoding_format": "base64"}),
        ("/pooling", {"input": TEXTS, "task": "token_classify"}),
        ("/score", PAIRS),
    ],
    "tagger": [
        ("/pooling", {"input": TEXTS}),
        ("/pooling", {"input": "abc", "encoding_format": "base64"}),
        ("/pooling", {"input": TEXTS, "task": "token_classify"}),
        ("/score", PAIRS),
        ("/classify", {"input": TEXTS}),
    ],
}
ENVIRONMENT: Final = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
#: As in contract/engines.py: no compilation, and no third process.
_OPTIONS: Final = ("--enforce-eager", "--distributed-executor-backend=uni", "--host=127.0.0.1")


def main(python: str) -> None:
    """Write the answers of all."""
    environment = {**os.environ, **ENVIRONMENT}
    answers = {}
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([python, str(CHECKPOINTS), directory], check=True, env=environment)
        for name, requests in REQUESTS.items():
            port = free_port()
            where = (f"--model={directory}/{name}", f"--served-model-name={name}", f"--port={port}")
            module = "vllm.entrypoints.openai.api_server"
            server = subprocess.Popen([python, "-m", module, *_OPTIONS, *where], env=environment)
            try:
                answers[name] = _ask(f"http://127.0.0.1:{port}", name, requests, server)
            finally:
                server.terminate()
                server.wait()
    # A line for each answer.
    lines = (
        f'"{name}": [\n' + ",\n".join(json.dumps(each) for each in told) + "\n]"
        for name, told in answers.items()
    )
    ANSWERS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _ask(
    url: str,
    model: str,
    requests: list[tuple[str, dict[str, Any]]],
    server: subprocess.Popen[bytes],
) -> list[dict[str, Any]]:
    answers = []
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        while server.poll() is None:
            try:
                client.get("/v1/models").raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(1)
        for path, body in requests:
            response = client.post(path, json={"model": model, **body})
            answer = {"status": response.status_code, "body": response.json()}
            answers.append({"path": path, "asked": body, **answer})
    return answers


if __name__ == "__main__":
    main(sys.argv[1])
