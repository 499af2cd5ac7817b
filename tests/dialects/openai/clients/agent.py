"""Runs agents of openai-agents, unmodified, with tools and streams: BASE_URL KEY MODEL."""

import asyncio
import sys

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

base_url, key, model = sys.argv[1:4]
set_tracing_disabled(True)
client = AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0)


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}"


async def main() -> None:
    for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
        agent = Agent(
            name="Helper",
            instructions="Answer briefly.",
            model=kind(model=model, openai_client=client),
            model_settings=ModelSettings(temperature=0, max_tokens=50),
        )
        done = await Runner.run(agent, "Say hello")
        assert done.final_output == "Say hello", (kind.__name__, done.final_output)
        assert done.context_wrapper.usage.total_tokens > 0, kind.__name__

        streamed = Runner.run_streamed(agent, "One two three")
        deltas = [
            event.data.delta
            async for event in streamed.stream_events()
            if event.type == "raw_response_event"
            and event.data.type == "response.output_text.delta"
        ]
        assert "".join(deltas) == "One two three", (kind.__name__, deltas)
        assert streamed.final_output == "One two three", kind.__name__

        equipped = agent.clone(
            tools=[weather], model=kind(model="tool:weather:answer:A hat", openai_client=client)
        )
        done = await Runner.run(equipped, '{"city": "Rome"}')
        assert done.final_output == "A hat", (kind.__name__, done.final_output)
        outputs = [item.output for item in done.new_items if item.type == "tool_call_output_item"]
        assert outputs == ["Sunny in Rome"], (kind.__name__, outputs)
    await client.close()


asyncio.run(main())
print("openai-agents went the whole way")
