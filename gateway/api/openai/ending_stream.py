"""Streams that end as vLLM's do: the last text and the reason why it ended are one chunk."""

from __future__ import annotations

from typing import Protocol

from contract.messages import Done
from gateway.streams.answers import StreamAnswer
from gateway.streams.dialects import StreamDialect, Timings


class EndingDialect(StreamDialect, Protocol):
    def done_in(self, last: bytes, seq: int, done: Done) -> bytes:
        """Return the last chunk with the end of the only choice in it, and all that follows; empty
        if that chunk has no room for it."""


class EndingStream(StreamAnswer):
    """Where the last chunk has not left yet, the end goes into it. Not where chunks have ids: a
    client that has the chunk by its id may still ask for the end."""

    dialect: EndingDialect

    def done(self, seq: int, done: Done, timings: Timings) -> None:
        self.open()
        if not self.dialect.numbered and len(done.finish_reasons) == 1:
            last = self.writer.take_back()
            if end := self.dialect.done_in(last, seq, done):
                self.writer.write(end)
                self.writer.close()
                return
            self.writer.write(last)
        super().done(seq, done, timings)
