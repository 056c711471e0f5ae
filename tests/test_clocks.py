"""How long something took, or may take, is counted by the monotonic clock: the other one jumps."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from contract.paths import ROOT

#: Where a moment is meant that is told to people, or is compared with one that a file gives.
MOMENTS = {
    "contract/keys.py": "when a key was made",
    "contract/key_sharing/copies.py": "whether a key has ended",
    "contract/key_sharing/source.py": "when keys were published",
    "gateway/http/key_store.py": "whether a key has expired",
    "gateway/http/sessions.py": "when a session ends",
    "gateway/streams/metrics.py": "when the process started",
    "gateway/streams/reply.py": "when its key expires",
    "gateway/api/audio/wire.py": "when a text was made",
    "gateway/api/openai/chat.py": "when an answer was made",
    "gateway/api/openai/completions.py": "when an answer was made",
    "gateway/api/pooling/classes.py": "when an answer was made",
    "gateway/api/pooling/embeddings.py": "when an answer was made",
    "gateway/api/pooling/scoring.py": "when an answer was made",
    "gateway/api/responses/response.py": "when an answer was made",
    "gateway/api/responses/wire.py": "when an answer ended",
    "gateway/api/ollama/wire.py": "when a line was written",
    "gateway/api/batches/routes.py": "when a batch was made, and when it expires",
    "gateway/background/webhook_sender.py": "when a message was signed",
    "gateway/batches/batch.py": "when a batch expires",
    "gateway/batches/file_store.py": "when a file was made, and when it expires",
    "gateway/batches/run.py": "when a batch began and ended",
    "gateway/batches/runner.py": "when a batch ended, and when it expires",
    "gateway/lifecycle/process.py": "when the process started",
    "gateway/admin/host_status.py": "when the document was read",
    "gateway/admin/request_journal.py": "when a request began",
    "orchestrator/cli/configure/key_table.py": "the states of keys",
    "gateway/api/admin/keys.py": "when a key was made, and when it expires",
    "gateway/server/access_log.py": "when an answer ended",
    "gateway/tracing/span.py": "when a span began and ended",
    "gateway/server/metrics/vllm_names.py": "when a sample was taken, which is its value in vLLM",
    "orchestrator/config/gateway_files.py": "when a certificate expires",
    "orchestrator/supervisor/tasks/runner.py": "when a task began and ended",
    "contract/supervision/history.py": "when a sample was taken",
    "gateway/api/native/usage.py": "which days are asked for",
    "orchestrator/backup/archive.py": "when a backup was made",
    "orchestrator/client/records/usage.py": "which days are asked for",
    "orchestrator/client/own_key.py": "when a key expires",
    "orchestrator/client/gateway_access.py": "when a key expires",
    "orchestrator/client/records/other_keys.py": "how long a key lives from now",
    "orchestrator/cli/configure/keys.py": "when a key was made, and when it expires",
    "orchestrator/cli/operate/logs.py": "what `--since` means",
    "orchestrator/cli/install/quickstart.py": "when a key expires",
    "orchestrator/cli/operate/status.py": "how old the document is",
    "orchestrator/environments/setup.py": "when an environment was made",
    "orchestrator/config/key_file.py": "when a key was revoked",
    "contract/logs/file.py": "when a line was written",
    "orchestrator/gpu/footprints.py": "when it was measured",
    "orchestrator/supervisor/reporting/report.py": "when the document was written",
    "orchestrator/protocol/status.py": "when the document was read",
    "orchestrator/supervisor/units/death.py": "when a worker ended",
    "orchestrator/supervisor/units/display.py": "since when it is in its state",
    "orchestrator/cli/status_screen/watch.py": "how old the document is",
    "workers/fetching.py": "how old a file is",
    "workers/worker.py": "when the process started",
}


def test_no_duration_is_counted_by_a_clock_that_jumps() -> None:
    assert {*readers_of_the_wall_clock()} == MOMENTS.keys()


def readers_of_the_wall_clock() -> Iterator[str]:
    for package in ("contract", "gateway", "workers", "orchestrator"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if any(map(_is_wall_clock, ast.walk(ast.parse(path.read_text())))):
                yield str(path.relative_to(ROOT))


def _is_wall_clock(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(value=ast.Name("time"), attr="time" | "time_ns"):
            return True
        case ast.Attribute(value=ast.Name("datetime"), attr="now" | "utcnow"):
            return True
        case _:
            return False
