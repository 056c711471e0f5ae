"""`python -m workers.engines.llama_server PORT NAME FILE PARAMETERS`: the server of llama.cpp, as
the package xllamacpp brings it, on loopback.

PARAMETERS is a JSON object of attributes of `xllamacpp.CommonParams`, with dots for what is deeper
(`cpuparams.n_threads`). The API key is in LLAMA_API_KEY.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import xllamacpp


def serve(port: int, name: str, path: str, parameters: dict[str, Any]) -> None:
    """Until SIGTERM. Raises `ValueError` for a parameter that this release does not have."""
    wanted = xllamacpp.CommonParams()
    wanted.model.path = path
    wanted.model_alias = {name}
    wanted.hostnames, wanted.port = ["127.0.0.1"], port
    wanted.api_keys = [os.environ["LLAMA_API_KEY"]]
    wanted.ui = False
    for parameter, value in parameters.items():
        _set(wanted, parameter, value)
    # The library's threads must not take the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    server = xllamacpp.Server(wanted)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del server


def _set(wanted: Any, parameter: str, value: Any) -> None:
    *sections, name = parameter.split(".")
    try:
        for section in sections:
            wanted = getattr(wanted, section)
        getattr(wanted, name)
        setattr(wanted, name, value)
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f"engine_args: `{parameter}`: {error} (xllamacpp {xllamacpp.__version__})"
        ) from None


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
