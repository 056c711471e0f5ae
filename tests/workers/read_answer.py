"""The answer that a client sees: the rules by which a gateway reads envelopes, as a program."""

from __future__ import annotations

from array import array

from contract.messages import Delta, Done, Envelope, Failed, Started


class ReadAnswer:
    """One job's envelopes, put together. Fails if they cannot be: a gap, or an unannounced attempt.

    A `Started` fences off all earlier attempts; sequence numbers seen before are repetitions;
    what comes after the end does not count.
    """

    def __init__(self) -> None:
        self.attempt = 0
        #: Of the attempts that have started, the numbers, each higher than the one before.
        self.attempts: list[int] = []
        self.next_seq = 0
        self.text = ""
        self.tokens = array("I")
        self.end: Done | Failed | None = None
        #: Every envelope that came, also those that did not count.
        self.envelopes: list[Envelope] = []

    def take(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)
        if isinstance(envelope.event, Started) and envelope.attempt not in self.attempts:
            self.attempts.append(envelope.attempt)
        if self.end is not None or envelope.attempt < self.attempt:
            return
        match envelope.event:
            case Started():
                self.attempt = envelope.attempt
            case Failed() as failed:
                assert envelope.attempt == self.attempt, f"{envelope} has not started"
                self.end = failed
            case Delta() | Done() as event:
                self._take_numbered(envelope, event)

    def _take_numbered(self, envelope: Envelope, event: Delta | Done) -> None:
        assert envelope.attempt == self.attempt, f"{envelope} has not started"
        assert envelope.seq <= self.next_seq, f"{self.next_seq} is missing before {envelope}"
        if envelope.seq < self.next_seq:
            return
        self.next_seq += 1
        if isinstance(event, Done):
            self.end = event
        else:
            self.text += event.text
            self.tokens.frombytes(event.tokens)

    def of_attempt(self, ordinal: int) -> list[Envelope]:
        """Return all envelopes of the first, second, ... attempt, also those that did not count."""
        number = self.attempts[ordinal - 1]
        return [envelope for envelope in self.envelopes if envelope.attempt == number]


def counted(first: int, last: int) -> str:
    """Return what the mock engine says from token `first` up to but without token `last`."""
    return "".join(f"{token} " for token in range(first, last))


def assert_counted(answer: ReadAnswer, tokens: int) -> None:
    """The mock engine's whole answer of so many tokens arrived: every one, once, in order."""
    assert isinstance(answer.end, Done), answer.end
    assert answer.text == counted(0, tokens)
    assert list(answer.tokens) == list(range(tokens))
    assert answer.end.completion_tokens == tokens
    assert answer.end.finish_reasons == ("length",)
