"""A caller of Spice's API with a key of its own account, and evals to run."""

import json
from typing import Any

from django.test import Client

from apps.accounts.models import Actor
from apps.datasets.models import Dataset, DatasetVersion
from apps.evaluations.models import Evaluation
from apps.evaluations.services.named_runs import name_evaluation
from tests.factories import (
    make_actor,
    make_dataset,
    make_key,
    make_version,
)

ROWS = (
    {"input": "Tokyo", "ideal": "Tokyo"},
    {"input": "kitten", "ideal": "sitting"},
    {"input": "no", "ideal": "yes"},
)


class Caller:
    """An account with one eval over three rows, and a client that holds its key."""

    def __init__(self, actor: Actor | None = None) -> None:
        self.actor = actor or make_actor()
        self.secret = make_key(self.actor)[1]
        self.client = Client()

    def have(
        self,
        name: str = "capitals",
        *,
        items: Any = ROWS,
        scorers: Any = ("match", "levenshtein"),
        dataset: str = "trivia",
    ) -> Evaluation:
        if items:
            make_version(self.actor, items=items, name=dataset)
        else:
            make_empty_version(self.actor, dataset)
        return name_evaluation(
            self.actor, call_name=name, dataset_name=dataset, scorers=list(scorers)
        )

    def post(self, name: str = "capitals", body: Any = None, **headers: str) -> Any:
        sent = {"model": "builtin/echo"} if body is None else body
        kind = headers.pop("content_type", "application/json")
        return self.client.post(
            f"/v1/evals/{name}",
            sent if isinstance(sent, bytes) else json.dumps(sent),
            kind,
            # The test client leaves it out beside an empty body.
            **{"CONTENT_TYPE": kind, "HTTP_X_API_KEY": self.secret, **headers},
        )

    def listed(self) -> Any:
        return self.client.get("/v1/evals", headers={"x-api-key": self.secret})


def make_empty_version(actor: Actor, name: str) -> None:
    """Make a version without rows, which a spicepod may bring and nobody can freeze by hand."""
    dataset = make_dataset(actor, items=[], name=name)
    Dataset.objects.filter(pk=dataset.pk).update(latest_num=1)
    DatasetVersion.objects.create(account=actor.account, dataset=dataset, num=1)
