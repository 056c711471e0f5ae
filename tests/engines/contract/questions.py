"""Questions and answers that the demo model was trained on."""

from __future__ import annotations

import json

from tests.engines.contract.engines import QUESTIONS

ANSWERS: dict[str, str] = {
    line["question"]: line["answer"]
    for line in map(json.loads, QUESTIONS.read_text(encoding="utf-8").splitlines())
}
COUNT = "Count to fifty."
HELLO = "Hello."
ALPHABETS = "Say hello in many languages."
