"""The checks of jobs before they are put, and the choice of the model that does them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from contract.media import media_of
from contract.messages import Job
from gateway.http.errors import ApiError
from gateway.http.headers import RequestContext
from gateway.jobs.limits import bounded, check_limits, check_logprobs, check_prompts, most_tokens
from gateway.jobs.media.intake import MediaIntake
from gateway.jobs.models import Models
from gateway.jobs.refusals import cannot_load, no_model
from gateway.jobs.routing.routing import Routing
from gateway.streams.metrics import Metrics

#: Names of fields for errors that nobody is told.
_UNTOLD: Final[Mapping[str, str]] = defaultdict(str)


class JobChecks:
    """Compares jobs with the configuration, with what is known of models, and with keys; and finds
    the model for each. Nothing is put, or asked of Redis."""

    def __init__(self, models: Models, media: MediaIntake, metrics: Metrics) -> None:
        self._models = models
        self._metrics = metrics
        self._media = media
        self._routing = Routing(models)

    def check(
        self, jobs: list[Job], context: RequestContext, names: Mapping[str, str], *, lenient: bool
    ) -> list[Job]:
        """Return the jobs of a request, for the model that it names or the one that does it
        instead, if this key may ask that model for this. `names` gives the API's own names of the
        fields that limits are about; a `lenient` API gives fewer tokens where a request asks for
        too many. Raises `ApiError`."""
        name = jobs[0].model
        named = self._models.find(name, context.key)
        if named is None:
            raise no_model(name)
        model = context.model = named.model
        configured = self._models.configured[model]
        if lenient:
            most = most_tokens(self._models.limits, configured)
            jobs = [bounded(job, most) for job in jobs]

        def fitted(model: str) -> list[Job]:
            return [self.fitted(job, model, names) for job in jobs]

        if named.adapter:
            return [replace(job, adapter=named.adapter) for job in fitted(model)]
        if not configured.is_routed or _stays(context):
            return fitted(model)
        chosen, context.moved_by = self._routing.choose(jobs[0], model, fitted)
        context.model = chosen[0].model
        if context.moved_by is not None:
            self._metrics.count_move(model, context.model, context.moved_by)
        return chosen

    def fitted(self, job: Job, model: str, names: Mapping[str, str]) -> Job:
        """Return the job for a model, if that may be asked for this. Raises `ApiError`."""
        check_limits(job, self._models.limits, self._models.configured[model], names)
        status = self._models.status(model)
        if status.registration is not None and status.registration.problem and not status.is_served:
            raise cannot_load(job.model, status.registration.problem)
        return replace(self._media.check(job, status.takes), model=model)

    def others(self, job: Job) -> Iterator[Job]:
        """Yield a job that waits for long as it is for each model that may do it instead, now."""
        for route in self._routing.fallbacks(job.model, "wait"):
            # The configuration may change between two of them.
            if route.model not in self._models.configured:
                continue
            with suppress(ApiError):
                other = self._refitted(job, route.model)
                if self._routing.can_take(other):
                    yield replace(other, moved_from=job.model)

    def _refitted(self, job: Job, model: str) -> Job:
        """Return the job for another model; its media were looked at before. Raises `ApiError`."""
        check_limits(job, self._models.limits, self._models.configured[model], _UNTOLD)
        takes = self._models.status(model).takes
        if takes is not None and not takes.issuperset(each.kind for each in media_of(job)):
            raise ApiError("invalid_request", f"model `{model}` does not take its media")
        return replace(job, model=model)

    def check_whole(self, job: Job, parts: list[Job], names: Mapping[str, str]) -> None:
        """Check that an answer to `parts`, together `job`, may be kept whole. Raises `ApiError`."""
        context = self._models.status(job.model).max_model_len
        configured = self._models.configured[job.model].max_output_len
        longest = min(filter(None, (self._models.limits.max_output_len, configured, context)))
        check_logprobs(job, self._models.limits, longest, names)
        check_prompts(parts, self._models.limits, context)


def _stays(context: RequestContext) -> bool:
    """Return whether the model that a request names is to do it, come what may. Raises
    `ApiError`."""
    if context.route not in (None, b"none"):
        raise ApiError("invalid_request", "the header `X-EW-Route` can be `none`, and nothing else")
    return context.route is not None
