"""The API keys of this gateway process, where several hosts on one Redis share them: published if
this host is their source, else followed."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from redis.exceptions import RedisError

from contract.bus.client import RedisClient
from contract.bus.records.key_board import KeyBoard
from contract.config import KeysConfig
from contract.key_sharing.follower import KeyFollower
from contract.key_sharing.shared_keys import BadSeal, SharedKeys, read_secret
from contract.key_sharing.source import KeySource, OtherSource
from contract.keys import KeyFileError
from contract.paths import of_project, shared_keys_path
from contract.process.host_name import host_name
from gateway.http.key_store import KeyStore
from gateway.http.watched_file import WatchedFile

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 0.5
#: Until somebody has mended what is wrong.
_LOOK_AGAIN_AFTER_S: Final = 2.0


class KeySharing:
    """Looks at Redis twice a second. While it is away the keys are those that were known last."""

    def __init__(self, db: RedisClient, config: KeysConfig, key_file: Path) -> None:
        #: Why the keys of this host and those of others are not the same.
        self.problem = ""
        self.source = config.source or ""
        self._host = host_name()
        self.follows = self.source not in ("", self._host)
        self._copy = key_file.with_name(shared_keys_path().name)
        if not self.follows:
            self._copy.unlink(missing_ok=True)
        self.store = KeyStore(key_file, self._copy if self.follows else None)
        self._db = db
        self._secret_file = of_project(config.secret_file or "")
        self._key_file = WatchedFile(key_file)
        self._seen = b""
        self._is_due = True

    async def run(self) -> None:
        """Run until cancelled; return at once if no keys are shared."""
        while self.source:
            try:
                problem = await self._turn()
            except (RedisError, OSError):
                # That Redis is away is told by others.
                problem = self.problem
            except (BadSeal, KeyFileError, OtherSource) as error:
                problem = str(error)
            if problem and problem != self.problem:
                log.error("API keys: %s", problem)
            self.problem = problem
            await asyncio.sleep(_LOOK_AGAIN_AFTER_S if problem else _LOOK_EVERY_S)

    async def _turn(self) -> str:
        """Look, and do what is due. Return what is wrong; raises what is, too."""
        signature = await KeyBoard(self._db).signature()
        self._is_due |= self._key_file.has_changed() or signature != self._seen
        if not self._is_due and not self.problem:
            return ""
        secret = read_secret(self._secret_file)
        if self.follows:
            shared = await KeyFollower(self._db, secret, self._copy, self._host).follow()
            self._seen = signature
            self.store.read()
            self._is_due = False
            return self._complaint(shared)
        self._seen = await KeySource(self._db, secret, self._key_file.path).publish()
        self._is_due = False
        return ""

    def _complaint(self, shared: SharedKeys | None) -> str:
        if shared is None:
            return f"`{self.source}` has shared no keys yet: its gateway does when it runs"
        if shared.host != self.source:
            return (
                f"this host's keys are those of `{shared.host}`, and `keys.source` is "
                f"`{self.source}`; name one of them on all hosts"
            )
        return ""
