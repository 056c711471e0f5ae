"""A stand-in for SGLang, with vLLM on the CPU under it: the real one needs an NVIDIA GPU. It does
as the sources of 0.5.23 do where ew's adapter meets them, their oddities included:

* an abort ends every request whose id begins with the one that is given;
* a stop string's beginning is streamed before the stop is recognised;
* a seed counts only with `enable_deterministic_inference`;
* some tokens of the context are kept back, and what is asked for beyond is cut off without a word;
* a constraint that cannot be read ends the request as aborted, with the status 400;
* its parsers are played, too, unless EW_TEST_SGLANG_PARSERS says where its own are;
* it takes over the process's logging and, with the first request, SIGTERM and SIGQUIT.
"""

import os
import sys
from pathlib import Path

from .engine import Engine

if os.environ.get("EW_TEST_SGLANG_PARSERS"):
    # For the imports of SGLang's own parsers (`sglang.srt` says more).
    sys.path.append(os.environ["EW_TEST_SGLANG_PARSERS"])
    __path__.append(str(Path(os.environ["EW_TEST_SGLANG_PARSERS"]) / "sglang"))

__version__ = "0.5.23"
__all__ = ["Engine"]
