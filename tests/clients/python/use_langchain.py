"""LangChain: the chat model, and an agent by `create_agent`."""

from __future__ import annotations

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
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

llm = ChatOpenAI(model=MODEL, base_url=URL, api_key=KEY, temperature=0)


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def chat() -> Any:
    return llm.invoke(QUESTION).content


def stream() -> str:
    return "".join(str(chunk.content) for chunk in llm.stream(QUESTION))


def tools() -> Any:
    agent = create_agent(llm, [get_weather])
    state = agent.invoke({"messages": [{"role": "user", "content": TOOL_QUESTION}]})
    return state["messages"][-1].content


def streamed_tools() -> Any:
    whole: Any = None
    for chunk in llm.bind_tools([get_weather]).stream(TOOL_QUESTION):
        whole = chunk if whole is None else whole + chunk
    calls = [[call["name"], call["args"]] for call in whole.tool_calls]
    return [*calls, whole.response_metadata["finish_reason"]]


def structured() -> Any:
    return llm.with_structured_output(Person).invoke(SENTENCE).model_dump()


def structured_by_call() -> Any:
    model = llm.with_structured_output(Person, method="function_calling")
    return model.invoke(SENTENCE).model_dump()


def agent_with_schema() -> Any:
    found = []
    for strategy in (ToolStrategy(Person), ProviderStrategy(Person)):
        agent = create_agent(llm, [], response_format=strategy)
        state = agent.invoke({"messages": [{"role": "user", "content": SENTENCE}]})
        found.append(state["structured_response"].model_dump())
    return found


def embeddings() -> list[int]:
    """Without the check of lengths, for which it fetches the tokenizer of OpenAI's models."""
    model = OpenAIEmbeddings(
        model=VECTORS, base_url=URL, api_key=KEY, check_embedding_ctx_length=False
    )
    return [len(vector) for vector in model.embed_documents(TEXTS)]


if __name__ == "__main__":
    report(
        chat,
        stream,
        tools,
        streamed_tools,
        structured,
        structured_by_call,
        agent_with_schema,
        embeddings,
    )
