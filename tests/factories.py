"""Makes the rows a test stands on; what the test does not speak of is filled in."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any
from uuid import UUID

from apps.accounts.models import Account, Actor, ApiKey, Membership, User
from apps.accounts.roles import Role
from apps.accounts.services.keys import issue_key
from apps.datasets.drafts import add_cases, freeze_version
from apps.datasets.models import Dataset, DatasetVersion
from apps.datasets.services import create_dataset
from apps.evaluations.models import Evaluation, Run
from apps.evaluations.services.evaluations import NewCriterion, create_evaluation
from apps.evaluations.services.runs import RunSource, start_run
from apps.evaluations.targets import Chat, Recorded, Target
from apps.inference.endpoints import add_endpoint
from apps.inference.models import ModelEndpoint

_numbers = count(1)


def make_user(email: str = "", **fields: Any) -> User:
    return User.objects.create_user(email or f"person{next(_numbers)}@example.com", **fields)


def make_account(name: str = "") -> Account:
    return Account.objects.create(name=name or f"Account {next(_numbers)}")


def make_actor(
    role: str = Role.OWNER, *, account: Account | None = None, user: User | None = None
) -> Actor:
    """A member with this role, the account selected; both are made where none is given."""
    account, user = account or make_account(), user or make_user()
    Membership.objects.create(account=account, user=user, role=role)
    roles: dict[UUID, str] = {account.pk: role}
    return Actor(user, account, roles)


def make_key(actor: Actor | None = None, **fields: Any) -> tuple[ApiKey, str]:
    """A key of the actor's and its secret."""
    actor = actor or make_actor()
    assert actor.account is not None
    return issue_key(actor.account, actor.user, **fields)


ITEMS = (
    {"text": "I was charged twice", "label": "billing"},
    {"text": "The app does not start", "label": "fault"},
    {"text": "Please close my account", "label": "closing"},
)


def make_dataset(
    actor: Actor | None = None,
    *,
    items: Iterable[Mapping[str, Any]] = ITEMS,
    **fields: Any,
) -> Dataset:
    """A dataset whose cases are in its draft only."""
    actor = actor or make_actor()
    dataset = create_dataset(actor, **{"name": f"dataset {next(_numbers)}", **fields})
    add_cases(actor, dataset, items=items)
    dataset.refresh_from_db()
    return dataset


def make_version(
    actor: Actor | None = None, *, items: Iterable[Mapping[str, Any]] = ITEMS, **fields: Any
) -> DatasetVersion:
    """The first frozen version of a new dataset."""
    actor = actor or make_actor()
    return freeze_version(actor, make_dataset(actor, items=items, **fields))


SAME = NewCriterion(
    "string_check",
    "same",
    {"input": "{{ sample.output_text }}", "reference": "{{ item.label }}", "operation": "eq"},
)


def make_evaluation(
    actor: Actor | None = None, *, criteria: Sequence[NewCriterion] = (SAME,), **fields: Any
) -> Evaluation:
    """One criterion: the answer is the item's label."""
    return create_evaluation(
        actor or make_actor(), criteria=criteria, **{"has_sample": True, **fields}
    )


def make_rows(count: int) -> list[dict[str, Any]]:
    """Rows with recorded answers; every third is wrong."""
    return [
        {
            "item": {"text": f"ticket {index}", "label": f"label {index}"},
            "sample": {"output_text": f"label {index if index % 3 else 'x'}"},
        }
        for index in range(count)
    ]


def make_endpoint(
    actor: Actor, base_url: str, *, models: Sequence[str] = ("m",), **fields: Any
) -> ModelEndpoint:
    """An endpoint on this machine."""
    return add_endpoint(actor, base_url=base_url, models=models, allow_private=True, **fields)


def ask(model: str = "builtin/echo", prompt: str = "{{ item.label }}", **fields: Any) -> Chat:
    """A chat target; a model that echoes gives every row its label."""
    return Chat(model, messages=[{"role": "user", "content": prompt}], **fields)


def make_run(
    actor: Actor | None = None,
    *,
    evaluation: Evaluation | None = None,
    source: RunSource | int = 6,
    target: Target | None = None,
    **fields: Any,
) -> Run:
    """A queued run, over so many rows with recorded answers unless another source is given."""
    actor = actor or make_actor()
    return start_run(
        actor,
        evaluation or make_evaluation(actor),
        source=make_rows(source) if isinstance(source, int) else source,
        target=target or Recorded(),
        **fields,
    )
