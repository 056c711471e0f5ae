"""The part of `sglang.srt` that an adapter meets. With EW_TEST_SGLANG_PARSERS, a directory in which
SGLang's wheel is unpacked, the parsers are SGLang's own."""

import os
from pathlib import Path

_REAL = os.environ.get("EW_TEST_SGLANG_PARSERS")


def own(package: str) -> list[str]:
    """Where SGLang's own package of that name is, if it is to be had."""
    return [str(Path(_REAL, *package.split(".")))] if _REAL else []


# For what the parsers import; what is played here comes first.
__path__ += own(__name__)
