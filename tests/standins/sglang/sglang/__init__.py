"""A stand-in for SGLang, with vLLM on the CPU under it: the real one needs an NVIDIA GPU. It does
as the sources of 0.5.23 do where ew's adapter meets them, their oddities included:

* an abort ends every request whose id begins with the one that is given;
* a stop string's beginning is streamed before the stop is recognised;
* a seed counts only with `enable_deterministic_inference`;
* some tokens of the context are kept back, and what is asked for beyond is cut off without a word;
* a constraint that cannot be read ends the request as aborted, with the status 400;
* it takes over the process's logging and, with the first request, SIGTERM and SIGQUIT.
"""

from .engine import Engine

__version__ = "0.5.23"
__all__ = ["Engine"]
