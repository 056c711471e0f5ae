"""LlamaIndex: chat, an agent's tools, `structured_predict`."""

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
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

llm = OpenAILike(
    model=MODEL,
    api_base=URL,
    api_key=KEY,
    is_chat_model=True,
    is_function_calling_model=True,
    context_window=1024,
)


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def chat() -> Any:
    return llm.chat([ChatMessage(role="user", content=QUESTION)]).message.content


def stream() -> str:
    messages = [ChatMessage(role="user", content=QUESTION)]
    return "".join(chunk.delta or "" for chunk in llm.stream_chat(messages))


def tools() -> str:
    agent = FunctionAgent(tools=[FunctionTool.from_defaults(get_weather)], llm=llm)

    async def ask() -> str:
        return str(await agent.run(TOOL_QUESTION))

    return asyncio.run(ask())


def structured() -> Any:
    found = llm.structured_predict(Person, PromptTemplate("{sentence}"), sentence=SENTENCE)
    return found.model_dump()


def embeddings() -> list[int]:
    model = OpenAILikeEmbedding(model_name=VECTORS, api_base=URL, api_key=KEY)
    return [len(vector) for vector in model.get_text_embedding_batch(TEXTS)]


if __name__ == "__main__":
    report(chat, stream, tools, structured, embeddings)
