"""One line format for the log of every process."""

from __future__ import annotations

import logging
import os
import re
import sys

_SECRETS = re.compile(r"(ew_[a-z0-9]{8}_)[A-Za-z0-9]+|(://[^:/@\s]*:)[^/\s]+(?=@)")


class _Redacting(logging.Formatter):
    """Blanks API keys and passwords in URLs, wherever they come from."""

    def format(self, record: logging.LogRecord) -> str:
        return _SECRETS.sub(lambda match: f"{match[1] or match[2]}...", super().format(record))


def configure_logging(process: str) -> None:
    """Log to stderr (the supervisor keeps it in logs/). EW_LOG_LEVEL sets the level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacting(f"%(asctime)s %(levelname)-7s {process} %(name)s: %(message)s"))
    level = os.environ.get("EW_LOG_LEVEL", "INFO").upper()
    logging.basicConfig(level=level, handlers=[handler], force=True)
