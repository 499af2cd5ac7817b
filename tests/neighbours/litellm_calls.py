"""LiteLLM: chat, streams, embeddings, and its own client of the Evals API."""

import os
import time

import litellm
import openai

URL, KEY = os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"]
WHERE = {"api_base": URL, "api_key": KEY}
SAID = [{"role": "user", "content": "one two three"}]

answer = litellm.completion(model="openai/echo-model", messages=SAID, temperature=0, **WHERE)
assert answer.choices[0].message.content == "one two three", answer
assert answer.usage.total_tokens > 0, answer
stream = litellm.completion(model="openai/echo-model", messages=SAID, stream=True, **WHERE)
assert "".join(part.choices[0].delta.content or "" for part in stream) == "one two three"
vectors = litellm.embedding(model="openai/vectors", input=["[1, 2]"], **WHERE)
assert vectors.data[0]["embedding"] == [1, 2], vectors
spoken = litellm.responses(model="openai/echo-model", input="hello", **WHERE)
assert spoken.output[0].content[0].text == "hello", spoken
try:
    litellm.completion(model="openai/nobody", messages=SAID, max_retries=0, **WHERE)
except litellm.NotFoundError as error:
    assert "nobody" in str(error)
else:
    raise AssertionError("a model that is not there answered")

# Its client of evals adds /v1 by itself.
of_evals = {"api_base": URL.removesuffix("/v1"), "api_key": KEY, "custom_llm_provider": "openai"}
schema = {"type": "object", "properties": {"q": {"type": "string"}}}
made = litellm.create_eval(
    name="From LiteLLM",
    data_source_config={"type": "custom", "item_schema": schema, "include_sample_schema": True},
    testing_criteria=[
        {
            "type": "string_check",
            "name": "same",
            "input": "{{ sample.output_text }}",
            "reference": "{{ item.q }}",
            "operation": "eq",
        }
    ],
    **of_evals,
)
assert litellm.get_eval(eval_id=made.id, **of_evals).name == "From LiteLLM"
assert made.id in [one.id for one in litellm.list_evals(**of_evals).data]
rows = [{"item": {"q": f"word {n}"}} for n in range(3)]
run = litellm.create_run(
    eval_id=made.id,
    data_source={
        "type": "completions",
        "model": "echo-model",
        "source": {"type": "file_content", "content": rows},
        "input_messages": {
            "type": "template",
            "template": [{"role": "user", "content": "{{ item.q }}"}],
        },
    },
    **of_evals,
)
# It cannot read a run that is "in_progress", as the hosted service says, too: so it looks when the
# run is over.
ends_at, client = time.monotonic() + 120, openai.OpenAI()
while client.evals.runs.retrieve(run.id, eval_id=made.id).status in ("queued", "in_progress"):
    assert time.monotonic() < ends_at, run
    time.sleep(0.1)
run = litellm.get_run(eval_id=made.id, run_id=run.id, **of_evals)
assert run.status == "completed", run
[line] = run.per_testing_criteria_results
assert (line.testing_criteria_index, line.result_counts.passed) == (0, 3), run
assert run.id in [one.id for one in litellm.list_runs(eval_id=made.id, **of_evals).data]
litellm.delete_run(eval_id=made.id, run_id=run.id, **of_evals)
litellm.delete_eval(eval_id=made.id, **of_evals)
print("litellm went the whole way")
