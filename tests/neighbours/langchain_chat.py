"""LangChain's OpenAI package: chat, streams, tools, structured output and embeddings."""

import asyncio

from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

MODEL = "echo-model"


class Verdict(BaseModel):
    label: str
    score: float


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}"


chat = ChatOpenAI(model=MODEL, temperature=0, max_retries=0)
said = [SystemMessage("Repeat."), HumanMessage("one two three")]
answer = chat.invoke(said)
assert answer.content == "one two three", answer
assert answer.usage_metadata["total_tokens"] > 0, answer
assert "".join(chunk.content for chunk in chat.stream(said)) == "one two three"
assert [one.content for one in chat.batch(["a", "b", "c"])] == ["a", "b", "c"]
assert asyncio.run(chat.ainvoke("d")).content == "d"

for method in ("json_schema", "json_mode"):
    structured = chat.with_structured_output(Verdict, method=method)
    assert structured.invoke('{"label": "good", "score": 0.5}') == Verdict(label="good", score=0.5)

equipped = ChatOpenAI(model="tool:weather:answer:A hat").bind_tools([weather])
asked = [HumanMessage('{"city": "Rome"}')]
called = equipped.invoke(asked)
assert called.tool_calls[0]["args"] == {"city": "Rome"}, called
result = ToolMessage(weather.invoke(called.tool_calls[0]["args"]), tool_call_id="call_1")
assert equipped.invoke([*asked, called, result]).content == "A hat"

spoken = ChatOpenAI(model=MODEL, use_responses_api=True, temperature=0)
assert spoken.invoke("hello").text == "hello"

# Texts, not tokens, for its table of tokens comes from the network.
embeddings = OpenAIEmbeddings(model="vectors", check_embedding_ctx_length=False)
assert embeddings.embed_documents(["[1, 2]", "[3, 4]"]) == [[1.0, 2.0], [3.0, 4.0]]
assert len(embeddings.embed_query("text")) > 0
print("langchain-openai went the whole way")
