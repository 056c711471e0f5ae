"""The part of `sglang.srt` that an adapter meets. With EW_TEST_SGLANG_PARSERS, a directory in which
SGLang's wheel is unpacked, the parsers are SGLang's own."""

import os
from pathlib import Path

_REAL = os.environ.get("EW_TEST_SGLANG_PARSERS")
if _REAL:
    __path__.insert(0, str(Path(_REAL) / "sglang" / "srt"))
