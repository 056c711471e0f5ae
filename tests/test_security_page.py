"""docs/security.md has numbers: those of the code."""

from __future__ import annotations

import pytest

from contract.config import GatewayConfig, JobsConfig, LimitsConfig
from contract.keys import REVOKED_WITHIN_S
from contract.limits import MEMORY_FOR_BATCH_JOBS, MEMORY_FOR_JOBS
from contract.logs.rotation import LARGEST_BYTES
from contract.paths import ROOT
from contract.process.flood import BURST, WINDOW_S
from gateway.api import constraint_bounds, fields
from gateway.api.openai import tools, values
from gateway.http import auth
from gateway.jobs.media import fetcher
from gateway.lifecycle import housekeeping
from gateway.server.http_guard import BODY_DEADLINE_S, HEAD_DEADLINE_S, MAX_PIPELINED
from gateway.server.http_rules import MAX_HEAD_BYTES, MAX_HEADERS
from gateway.streams.replays import MOST_REPLIES, MOST_REPLIES_OF_A_KEY
from gateway.streams.writer import MAX_BUFFERED_BYTES
from orchestrator.system import valkey
from workers import frames

PAGE = (ROOT / "docs" / "security.md").read_text()
LIMITS = LimitsConfig()
MEDIA = GatewayConfig().media
KIB, MIB, GIB = 2**10, 2**20, 2**30
MOST = constraint_bounds._MOST

#: By the first words of each row, what it must say.
ROWS = {
    "connections of one HTTP process": [f"({GatewayConfig().max_connections})"],
    "head": [f"{MAX_HEAD_BYTES // KIB} KiB", f"{MAX_HEADERS} fields"],
    "time for a head": [f"{HEAD_DEADLINE_S:.0f} s", f"{BODY_DEADLINE_S:.0f} s"],
    "body": [f"({LIMITS.max_body_bytes // MIB} MiB)"],
    "a body of a key": [f"({MEDIA.max_bytes // MIB} MiB)"],
    "images and the like": [
        f"{MEDIA.max_items} items",
        f"{MEDIA.max_bytes // MIB} MiB together",
        f"{MEDIA.max_pixels // 1_000_000} million pixels",
    ],
    "URLs of images": [f"{fetcher.MOST_REDIRECTS} redirects", f"{MEDIA.timeout_s:.0f} s"],
    "requests that wait": [f"| {MAX_PIPELINED}, "],
    "what a client may be behind": [f"{MAX_BUFFERED_BYTES // MIB} MiB"],
    "`n`, tokens": [f"({LIMITS.max_choices})", f"({LIMITS.max_output_len})"],
    "log probabilities": [f"({LIMITS.max_logprobs})"],
    "schemas": [
        f"{fields._LARGEST_SCHEMA_BYTES // KIB} KiB",
        f"{MOST['properties']} properties",
        f"{MOST['branches']} branches",
        f"{MOST['values to choose from']} values",
        f"{constraint_bounds._DEEPEST} levels",
    ],
    "tools": [f"{tools.MOST_TOOLS} tools", f"{values.MOST_PROMPTS} inputs"],
    "resumed answers": [f"{MOST_REPLIES}, half"] * (MOST_REPLIES == 2 * MOST_REPLIES_OF_A_KEY),
    "wrong keys": [f"{auth._FAILURES_PER_MINUTE} in a minute"],
    "ew's own Valkey": [f"{valkey._LEAST_MEMORY // MIB} MiB", f"{valkey._MOST_MEMORY // GIB} GiB"],
    "new jobs": [
        f"{each:.0%}".replace("%", " %") for each in (MEMORY_FOR_JOBS, MEMORY_FOR_BATCH_JOBS)
    ],
    "jobs in one": [f"({LIMITS.max_waiting})", f"({LIMITS.max_waiting_bytes // MIB} MiB)"],
    "background jobs": [f"({JobsConfig().max_bytes // MIB} MiB)"],
    "answers kept": [
        f"({LIMITS.max_reply_bytes // MIB} MiB)",
        f"{housekeeping._TIDY_EVERY_S:.0f} s",
    ],
    "one frame": [f"{frames._MOST_ENVELOPES} ", f"{frames._LARGEST_FRAME_BYTES // KIB} KiB"],
    "one log": [f"{LARGEST_BYTES // MIB} MiB"],
    "lines of one cause": [f"{BURST} in {WINDOW_S:.0f} s"],
}


@pytest.mark.parametrize("begins", ROWS)
def test_its_numbers_are_those_of_the_code(begins: str) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| {begins}"))
    assert ROWS[begins]
    for words in ROWS[begins]:
        assert words in row


def test_a_bound_of_time_is_the_one_of_the_code() -> None:
    assert REVOKED_WITHIN_S == 1
    assert "opens nothing within a second" in PAGE


def test_what_it_names_is_there() -> None:
    names = [
        line.rsplit("|", 2)[1]
        for line in PAGE.splitlines()
        if line.startswith("| ") and "`" in line
    ]
    code = "\n".join(
        path.read_text()
        for package in ("contract", "gateway", "workers", "orchestrator")
        for path in (ROOT / package).rglob("*.py")
    )
    for cell in names[:]:
        for name in (part.strip().strip("`") for part in cell.split(",")):
            found = (ROOT / name).exists() if "/" in name else name.rpartition(".")[2] in code
            assert found, name
