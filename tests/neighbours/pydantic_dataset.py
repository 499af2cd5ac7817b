"""Pydantic Evals: a dataset whose task asks us, and whose judge is a model of ours."""

import os

from openai import AsyncOpenAI
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_evals import Case, Dataset
from pydantic_evals.evaluators import EqualsExpected

client = AsyncOpenAI(
    base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"], max_retries=0
)
model = OpenAIChatModel("echo-model", provider=OpenAIProvider(openai_client=client))


async def answer(question: str) -> str:
    said = [{"role": "user", "content": question}]
    completion = await client.chat.completions.create(model=model.model_name, messages=said)
    return completion.choices[0].message.content


dataset = Dataset(
    name="Words",
    cases=[
        Case(name=f"case {n}", inputs=f"word {n}", expected_output=f"word {n}") for n in range(5)
    ],
    evaluators=[EqualsExpected()],
)
report = dataset.evaluate_sync(answer, progress=False)
assert report.failures == [], report.failures
assert report.averages().assertions == 1.0, report
print("pydantic-evals went the whole way")
