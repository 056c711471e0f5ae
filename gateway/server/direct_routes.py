"""The short way to the routes that FastAPI would only pass a request on to.

A route that reads its body by hand and makes its response itself needs nothing of FastAPI's but
its place in the document. On the way through FastAPI's and Starlette's layers to such a route a
request takes half of the time that it costs until it is queued.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, get_type_hints

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.http.errors import ApiError

_HINTS: Final = {"request": Request, "return": Response}
#: The answer to an error that a route raises.
ErrorResponder = Callable[[Request, Exception], Awaitable[Response]]


class DirectRoutes:
    """Runs the application's direct routes by itself, and leaves everything else to it.

    Direct are `POST` routes of a fixed path whose function takes the request, and nothing else, and
    returns a `Response`. `check` is the application's dependency, which runs before each of them.
    """

    def __init__(
        self,
        app: FastAPI,
        routers: Iterable[APIRouter],
        check: Callable[[Request], Awaitable[None]],
        *,
        on_api_error: ErrorResponder,
        on_bug: ErrorResponder,
    ) -> None:
        self._app = app
        self._routes = {
            route.path: route
            for router in routers
            for route in router.routes
            if isinstance(route, APIRoute) and _is_direct(route)
        }
        self._check = check
        self._on_api_error = on_api_error
        self._on_bug = on_bug

    @property
    def paths(self) -> frozenset[str]:
        """The paths of the direct routes."""
        return frozenset(self._routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        route = self._routes.get(scope["path"]) if is_post else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["app"], scope["route"] = self._app, route
        request = Request(scope, receive)
        try:
            await self._check(request)
            response = await route.endpoint(request)
        except ApiError as error:
            response = await self._on_api_error(request, error)
        except Exception as error:
            # The server, which logs it, is told once the client is answered.
            await (await self._on_bug(request, error))(scope, receive, send)
            raise
        await response(scope, receive, send)


def _is_direct(route: APIRoute) -> bool:
    is_fixed = route.methods == {"POST"} and "{" not in route.path and not route.dependencies
    if not is_fixed or not inspect.iscoroutinefunction(route.endpoint):
        return False
    takes_request = list(inspect.signature(route.endpoint).parameters) == ["request"]
    return takes_request and get_type_hints(route.endpoint) == _HINTS
