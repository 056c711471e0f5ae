"""The spans of a job, from what its reply and its workers tell."""

from __future__ import annotations

from contract.messages import Done, EngineTimes, Started
from gateway.tracing.job_trace import JobTrace
from gateway.tracing.span import Span, SpanMaker


class Told:
    """A job's trace that begins at 100 s, and its spans as they end."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        maker = SpanMaker(self.spans.append, lambda trace_id: True)
        self.trace = JobTrace(maker, maker.begin("chat m", 100.0, None, {}), 100.0)
        self._zero_ns = maker.ns(100.0)

    def times(self, name: str) -> list[tuple[float, float]]:
        """Return the beginnings and ends of spans, in seconds from the job's."""
        found = [span for span in self.spans if span.name == name]
        return [(self._s(span.start_ns), self._s(span.end_ns)) for span in found]

    def ends(self) -> list[object]:
        return [each.attributes["ew.end"] for each in self.spans if each.name == "attempt"]

    def _s(self, ns: int) -> float:
        return round((ns - self._zero_ns) / 1e9, 6)


def test_times_of_a_worker_are_counted_from_when_its_start_was_read() -> None:
    told = Told()
    told.trace.start(Started("w", 500_000), 102.0, 100.0)
    done = Done(("stop",), 3, 4, times=EngineTimes(100_000, 600_000, 2_000_000))
    told.trace.end(done, "", 103.0, 105.0)
    assert told.times("queue") == [(0.0, 1.5)]
    assert told.times("claim") == [(1.5, 2.0)]
    assert told.times("attempt") == [(1.5, 5.0)]
    assert told.times("engine") == [(2.1, 4.0)]
    assert told.times("stream") == [(3.0, 5.0)]
    (engine,) = [span for span in told.spans if span.name == "engine"]
    assert [(name, told._s(at)) for name, at in engine.events] == [("first_token", 2.6)]


def test_a_worker_with_odd_times_cannot_put_a_span_outside_of_its_job() -> None:
    told = Told()
    told.trace.start(Started("w", 3_600_000_000), 101.0, 100.0)
    odd = EngineTimes(5_000_000, 9_000_000, 7_000_000)
    told.trace.end(Done(("stop",), 3, 4, times=odd), "", 0.0, 102.0)
    assert told.times("queue") == [(0.0, 0.0)]
    assert told.times("engine") == [(2.0, 2.0)]
    assert told.times("chat m") == [(0.0, 2.0)]


def test_a_job_that_gave_up_its_place_waits_again() -> None:
    told = Told()
    told.trace.start(Started("w1"), 101.0, 100.0)
    told.trace.wait(103.0)
    told.trace.wait(104.0)
    told.trace.start(Started("w2"), 106.0, 103.0)
    told.trace.end(Done(("stop",), 3, 4), "", 101.5, 108.0)
    assert told.times("queue") == [(0.0, 1.0), (3.0, 6.0)]
    assert told.times("attempt") == [(1.0, 3.0), (6.0, 8.0)]
    assert told.ends() == ["yielded", "done"]
    assert not any(span.error for span in told.spans)


def test_a_job_that_no_worker_took_has_waited_to_its_end() -> None:
    told = Told()
    told.trace.end(None, "queue_timeout", 0.0, 120.0)
    assert [span.name for span in told.spans] == ["queue", "chat m"]
    assert told.times("queue") == [(0.0, 20.0)]
    assert told.spans[1].error


def test_of_a_lost_worker_the_last_word_is_the_end_of_its_attempt() -> None:
    told = Told()
    told.trace.start(Started("w1"), 101.0, 100.0)
    told.trace.start(Started("w2"), 112.0, 103.0)
    told.trace.end(None, "", 0.0, 113.0)
    assert told.times("attempt") == [(1.0, 3.0), (12.0, 13.0)]
    assert told.times("queue") == [(0.0, 1.0), (3.0, 12.0)]
    assert told.ends() == ["lost", "client_left"]
    lost, last = [span for span in told.spans if span.name == "attempt"]
    assert (lost.error, last.error) == (True, False)
    assert last.link == lost.context
