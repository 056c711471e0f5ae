"""The disk under files and batches, when it cannot take more."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gateway.batches.file_store import StoreFull
from gateway.http.errors import ApiError

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def told_of_disk() -> Iterator[None]:
    """Raises `ApiError` where a file is too much for its key or for the disk."""
    try:
        yield
    except StoreFull as full:
        raise ApiError("files_full", str(full)) from None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        message = "the disk of this gateway is full; whoever runs it has to free some space"
        raise ApiError("disk_full", message) from error
