"""Evaluates rows with azure-ai-evaluation's graders, unmodified: BASE_URL KEY MODEL.

Each grader becomes an evaluation and a run of its own. With `azure` as a fourth word, it comes by
Azure's doors.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

base_url, key, model = sys.argv[1:4]
pause = time.sleep
# The library asks for a run after 4.5 seconds first, then after ever longer ones.
time.sleep = lambda seconds: pause(seconds / 20)

from azure.ai.evaluation import (  # noqa: E402  the clock goes first
    AzureOpenAIGrader,
    AzureOpenAILabelGrader,
    AzureOpenAIModelConfiguration,
    AzureOpenAIPythonGrader,
    AzureOpenAIScoreModelGrader,
    AzureOpenAIStringCheckGrader,
    AzureOpenAITextSimilarityGrader,
    OpenAIModelConfiguration,
    evaluate,
)

if sys.argv[4:] == ["azure"]:
    server = AzureOpenAIModelConfiguration(
        type="azure_openai",
        azure_endpoint=base_url.removesuffix("/v1"),
        api_key=key,
        azure_deployment=model,
    )
else:
    server = OpenAIModelConfiguration(type="openai", base_url=base_url, api_key=key, model=model)

ROWS = [
    {"query": "Where is my invoice?", "response": "billing", "truth": "billing"},
    {"query": "It is broken.", "response": "billing", "truth": "fault"},
    {"query": "Close my account.", "response": "closing", "truth": "closing"},
]
GRADE = "def grade(sample, item):\n    return 1.0 if item['response'] == item['truth'] else 0.0\n"
# The model server answers with the last message.
LABELLED = [{"role": "user", "content": '{"steps": [], "result": "{{ item.response }}"}'}]
SCORED = [{"role": "user", "content": '{"steps": [], "result": 0.75}'}]

same = {"input": "{{ item.response }}", "reference": "{{ item.truth }}"}
graders = {
    "same": AzureOpenAIStringCheckGrader(model_config=server, name="same", operation="eq", **same),
    "near": AzureOpenAITextSimilarityGrader(
        model_config=server,
        name="near",
        evaluation_metric="fuzzy_match",
        pass_threshold=0.9,
        **same,
    ),
    "label": AzureOpenAILabelGrader(
        model_config=server,
        name="label",
        model=model,
        input=LABELLED,
        labels=["billing", "fault", "closing"],
        passing_labels=["billing"],
    ),
    "score": AzureOpenAIScoreModelGrader(
        model_config=server,
        name="score",
        model=model,
        input=SCORED,
        range=[0, 1],
        pass_threshold=0.5,
        sampling_params={"temperature": 0},
    ),
    "program": AzureOpenAIPythonGrader(
        model_config=server, name="program", source=GRADE, pass_threshold=0.5
    ),
    "any": AzureOpenAIGrader(
        model_config=server,
        grader_config={"type": "string_check", "name": "any", "operation": "like", **same},
    ),
}
columns = {name: "${data." + name + "}" for name in ROWS[0]}

with tempfile.TemporaryDirectory() as folder:
    data = Path(folder, "rows.jsonl")
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    result = evaluate(
        data=str(data),
        evaluators=graders,
        evaluator_config={"default": {"column_mapping": columns}},
        evaluation_name="Tickets",
    )

rates = {name: result["metrics"][f"{name}.pass_rate"] for name in graders}
two_thirds = 2 / 3
assert rates == {
    "same": two_thirds,
    "near": two_thirds,
    "label": two_thirds,
    "score": 1.0,
    "program": two_thirds,
    "any": two_thirds,
}, rates
for row, wanted in zip(result["rows"], ROWS, strict=True):
    right = wanted["response"] == wanted["truth"]
    assert row["outputs.same.passed"] is right, row
    assert row["outputs.program.score"] == float(right), row
    assert row["outputs.score.score"] == 0.75, row
print("azure-ai-evaluation went the whole way")
sys.stdout.flush()
# It leaves threads behind that wait for a telemetry server.
os._exit(0)
