"""Routes that FastAPI is not asked about, and all others, which it is."""

from __future__ import annotations

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response

from gateway.http.errors import ApiError
from gateway.server.app import _ROUTERS
from gateway.server.direct_routes import DirectRoutes

router = APIRouter(prefix="/v9")


@router.post("/direct")
async def direct(request: Request) -> Response:
    body = await request.body()
    if body == b"refuse":
        raise ApiError("queue_full", "no room")
    if body == b"break":
        raise KeyError("a defect")
    # FastAPI keeps a stack of what to close in the scope of each request that passes it.
    return Response(f"{body.decode()} {'fastapi_inner_astack' in request.scope}")


@router.post("/with/{name}")
async def with_name(request: Request, name: str) -> Response:
    return Response(f"{name} {'fastapi_inner_astack' in request.scope}")


@router.post("/of-a-type")
async def of_a_type(request: Request) -> dict[str, bool]:
    return {"passed": "fastapi_inner_astack" in request.scope}


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = FastAPI()
    app.include_router(router)

    async def check(request: Request) -> None:
        if "x-key" not in request.headers:
            raise ApiError("missing_api_key", "no key")

    async def tell(request: Request, error: Exception) -> Response:
        return Response(getattr(error, "code", "bug"), 500)

    served = DirectRoutes(app, [router], check, on_api_error=tell, on_bug=tell)
    transport = httpx.ASGITransport(served, raise_app_exceptions=False)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://ew", headers={"x-key": "k"})


def test_what_generates_is_direct() -> None:
    async def check(request: Request) -> None: ...

    async def tell(request: Request, error: Exception) -> Response: ...

    served = DirectRoutes(FastAPI(), _ROUTERS, check, on_api_error=tell, on_bug=tell)
    generating = {
        "/api/v1/inference/stream",
        "/v1/chat/completions",
        "/v1/completions",
        "/completions",
    }
    assert generating <= served.paths


async def test_only_what_takes_a_request_and_answers_a_response_is_direct(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.post("/v9/direct", content="a")).text == "a False"
    assert (await client.post("/v9/with/b")).text == "b True"
    assert (await client.post("/v9/of-a-type")).json() == {"passed": True}
    assert (await client.get("/v9/direct")).status_code == 405


async def test_errors_of_direct_routes_are_answered_as_elsewhere(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.post("/v9/direct", content="refuse")).text == "queue_full"
    assert (await client.post("/v9/direct", content="break")).text == "bug"
    del client.headers["x-key"]
    assert (await client.post("/v9/direct", content="a")).text == "missing_api_key"
