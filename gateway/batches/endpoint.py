"""The endpoint of a batch's lines: the same as for requests, by the same bodies and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from contract.keys import KeyRecord
from contract.messages import Job
from gateway.http.headers import RequestContext
from gateway.streams.answers import WholeAnswer


class LineRequest(NamedTuple):
    """The request of a line: a job that is not checked yet, the names in the body of the fields
    that limits are about, and the maker of the answer, given the job under its served name."""

    job: Job
    names: Mapping[str, str]
    is_lenient: bool
    make: Callable[[Job, RequestContext], WholeAnswer[Any]]


#: Reads a line's body for a job id and a key. Raises `ApiError`.
Endpoint = Callable[[bytes, str, KeyRecord], LineRequest]
Endpoints = Mapping[str, Endpoint]
