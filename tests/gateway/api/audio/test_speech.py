"""Speech is refused by name, and a form for it is read within bounds."""

from __future__ import annotations

import httpx
import pytest


@pytest.mark.parametrize("path", ["transcriptions", "translations"])
async def test_the_refusal_names_the_model_and_the_next_step(
    client: httpx.AsyncClient, model: str, path: str
) -> None:
    file = {"file": ("a.wav", b"RIFF")}
    response = await client.post(f"/v1/audio/{path}", files=file, data={"model": model})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "model"
    assert f"`{model}`" in error["message"]
    assert "vllm serve" in error["message"]


async def test_other_faults_are_told_first(client: httpx.AsyncClient, model: str) -> None:
    path = "/v1/audio/transcriptions"
    file = {"file": ("a.wav", b"RIFF")}
    response = await client.post(path, files=file, data={"model": "no-such"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    response = await client.post(path, files=file)
    assert response.json()["error"]["param"] == "model"
    response = await client.post(path, json={"model": model})
    assert response.json()["error"]["code"] == "bad_multipart"
    large = {"file": ("a.wav", b"\0" * (26 * 1024 * 1024))}
    response = await client.post(path, files=large, data={"model": model})
    assert response.status_code == 413
    response = await client.post(path, files=file, headers={"x-api-key": "wrong"})
    assert response.status_code == 401
