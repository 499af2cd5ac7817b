"""Look into a hurt system by `manage.py shell`, since no test sees its database."""

import json
import os
import sys
from collections import Counter
from typing import Any

from django.core.management import call_command
from django.db.models import Count

from apps.evaluations.models import Result, Run


def open_account(name: str, base_url: str, model: str, concurrency: int) -> None:
    """Print the key of a new account that has the model."""
    call_command("create_api_key", account=name)
    options = {"account": name, "base_url": base_url, "concurrency": concurrency}
    quiet = {"allow_private": True, "unchecked": True, "stdout": open(os.devnull, "w")}  # noqa: SIM115 - it ends with us
    call_command("add_endpoint", model, **options, **quiet)


def recount(run: Run) -> dict[str, Any]:
    """Count a run's rows, beside what it says of itself."""
    results = Result.objects.of_run(run).order_by()
    criteria = run.evaluation.criteria.filter(version=run.criteria_version).order_by("position")
    keys = [pk.hex for pk in criteria.values_list("pk", flat=True)]
    per_result, passed = set(), Counter()
    for result in results:
        verdicts = [one for one in result.read_verdicts() if one is not None]
        per_result.add(len(verdicts))
        passed.update(key for key, one in zip(keys, verdicts, strict=False) if one.passed)
    tally = json.loads(run.tally)["criteria"]
    return {
        "account": run.account.name,
        "asks": bool(run.model),
        "state": run.state,
        "error": f"{run.error_code} {run.error_message}",
        "total": run.total_count,
        "counts": {
            state: getattr(run, f"{state}_count")
            for state in Result.State.values
            if getattr(run, f"{state}_count")
        },
        "tally": {criterion: sums[0] for criterion, sums in tally.items()},
        "open_shards": run.shards.filter(finished_at=None).count(),
        "done": sum(run.shards.values_list("done_count", flat=True)),
        "rows": sorted(results.values_list("row_index", flat=True)),
        "states": dict(results.values_list("state").annotate(Count("pk"))),
        "scores_per_result": sorted(per_result),
        "passed_scores": passed,
        "errored": sorted(results.filter(state="errored").values_list("row_index", "error_code")),
    }


def tell() -> None:
    """Print the recount of every run as JSON."""
    runs = Run.objects.select_related("account").order_by("pk")
    json.dump([recount(run) for run in runs], sys.stdout)
