"""How ew's worker starts vLLM: prints the arguments of its engine, and the variables that the
worker sets for it, as JSON. Runs in the engine's environment, with a worker's variables."""

from __future__ import annotations

import json
import os
from typing import Any

from contract.config import WorkerSpec
from workers.engines.vllm.arguments import engine_args, is_on_cpu, set_cpu_defaults


def passed(spec: WorkerSpec) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments, and the variables that are set by this."""
    before = dict(os.environ)
    args = engine_args(spec, with_adapters=bool(spec.model.adapter_paths))
    if is_on_cpu(spec):
        set_cpu_defaults(args)
    return args, {k: v for k, v in os.environ.items() if before.get(k) != v}


if __name__ == "__main__":
    # vLLM logs to the standard output.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    found = passed(WorkerSpec.handed_over(os.environ["EW_WORKER"]))
    print(json.dumps(found), file=answer, flush=True)
