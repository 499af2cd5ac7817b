"""Wait for runs by the vendor's own client, as several tests do."""

from typing import Any

import openai

from tests.patience import wait_until


def wait_over(client: openai.OpenAI, run: Any, seconds: float = 60) -> Any:
    """The run as it is when it has ended."""
    ended = []

    def over() -> bool:
        found = client.evals.runs.retrieve(run.id, eval_id=run.eval_id)
        if found.status not in ("queued", "in_progress"):
            ended.append(found)
        return bool(ended)

    wait_until(over, seconds, f"the end of {run.id}")
    return ended[0]
