"""pydantic-ai: an agent with a tool, and with each kind of structured output."""

from __future__ import annotations

import asyncio
from typing import Any

from abilities import (
    KEY,
    MODEL,
    QUESTION,
    SENTENCE,
    TEXTS,
    TOOL_QUESTION,
    URL,
    VECTORS,
    get_weather,
    report,
)
from pydantic import BaseModel
from pydantic_ai import Agent, Embedder, NativeOutput, ToolOutput
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=URL, api_key=KEY)
model = OpenAIChatModel(MODEL, provider=provider)


class Person(BaseModel):
    name: str
    age: int


def chat() -> str:
    return Agent(model).run_sync(QUESTION).output


def stream() -> str:
    async def read() -> str:
        async with Agent(model).run_stream(QUESTION) as answer:
            return "".join([text async for text in answer.stream_text(delta=True)])

    return asyncio.run(read())


def tools() -> str:
    return Agent(model, tools=[get_weather]).run_sync(TOOL_QUESTION).output


def structured() -> Any:
    return Agent(model, output_type=NativeOutput(Person)).run_sync(SENTENCE).output.model_dump()


def structured_by_call() -> Any:
    return Agent(model, output_type=ToolOutput(Person)).run_sync(SENTENCE).output.model_dump()


def embeddings() -> list[int]:
    embedder = Embedder(OpenAIEmbeddingModel(VECTORS, provider=provider))
    return [len(vector) for vector in embedder.embed_documents_sync(TEXTS).embeddings]


if __name__ == "__main__":
    report(chat, stream, tools, structured, structured_by_call, embeddings)
