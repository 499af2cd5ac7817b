"""Runs that ended with a tally, and prices of the models they asked."""

from decimal import Decimal

from apps.evaluations.models import Run
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.tally import Tally
from apps.inference.endpoints import set_prices
from apps.inference.models import ServedModel

JUDGE = NewCriterion(
    "score_model",
    "kind",
    {
        "model": "judge",
        "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
        "range": [0, 1],
    },
)


def price(actor, name, prompt, completion):
    model = ServedModel.objects.select_related("account").get(account=actor.account, name=name)
    set_prices(actor, model, prompt=Decimal(prompt), completion=Decimal(completion))


def ended(run, tally=None, errored=0):
    """The run as if it had completed with such a tally."""
    passed = 6 - errored
    Run.objects.filter(pk=run.pk).update(
        state=Run.State.COMPLETED,
        row_count=6,
        total_count=6,
        passed_count=passed,
        errored_count=errored,
        tally=(tally or Tally()).dump(),
    )
    run.refresh_from_db()
    return run


def plan_by_hand(run):
    run.shards.create(account=run.account, number=0, first_row=0, row_count=6, start=0, stop=10**6)
