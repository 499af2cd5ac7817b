"""Ids there and back, and pages that hold each row once."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from apps.evaluations.models import Evaluation, Result
from evalplatform.dialects.openai.ids import EVAL_ID, FILE_ID, ITEM_ID, RUN_ID
from tests.dialects.openai.caller import Caller
from tests.factories import make_actor

FIELDS = {"eval": EVAL_ID, "evalrun": RUN_ID, "outputitem": ITEM_ID, "file": FILE_ID}


@given(st.uuids())
def test_an_id_leads_back_to_its_uuid(uuid: UUID):
    for field in FIELDS.values():
        if field is not ITEM_ID:
            assert field.to_internal_value(field.to_representation(uuid)) == uuid


@given(st.integers(0, 2**63 - 1), st.uuids())
def test_the_id_of_an_output_item_leads_back_to_its_key_and_no_other_does(key: int, other: UUID):
    shown = Result(id=key).shown_id
    assert ITEM_ID.to_internal_value(ITEM_ID.to_representation(shown)) == key
    with pytest.raises(ValidationError):
        ITEM_ID.to_internal_value(ITEM_ID.to_representation(other))


@given(st.uuids())
def test_ids_have_the_vendors_shape(uuid: UUID):
    assert EVAL_ID.to_representation(uuid) == f"eval_{uuid.hex}"
    assert RUN_ID.to_representation(uuid) == f"evalrun_{uuid.hex}"
    assert ITEM_ID.to_representation(uuid) == f"outputitem_{uuid.hex}"
    file_id = FILE_ID.to_representation(uuid)
    assert len(file_id) == len("file-") + 22
    assert file_id.removeprefix("file-").isalnum()


@given(st.text())
def test_any_other_text_is_no_id(text: str):
    for field in FIELDS.values():
        with pytest.raises(ValidationError):
            field.to_internal_value(text)


@pytest.mark.parametrize("kind", FIELDS)
@given(uuid=st.uuids())
def test_an_id_has_one_spelling(kind: str, uuid: UUID):
    field = FIELDS[kind]
    shown = field.to_representation(uuid)
    others = {shown + "0", shown[:-1], " " + shown, shown + "\n", shown.replace("_", "-", 1)}
    if kind != "file":
        others |= {shown.upper(), str(uuid)}
    for other in others - {shown}:
        with pytest.raises(ValidationError):
            field.to_internal_value(other)


def test_a_file_number_beyond_a_uuid_is_no_id():
    largest = FILE_ID.to_representation(UUID(int=2**128 - 1))
    assert FILE_ID.to_internal_value(largest) == UUID(int=2**128 - 1)
    with pytest.raises(ValidationError):
        FILE_ID.to_internal_value("file-" + "z" * 22)


NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def make_evaluations(caller: Caller, seconds: list[int]) -> list[Evaluation]:
    """Make one evaluation for each number: that many seconds after noon, changed in reverse."""
    return [
        Evaluation.objects.create(
            account=caller.actor.account,
            name=f"number {number}",
            created_at=NOON + timedelta(seconds=second),
            updated_at=NOON - timedelta(seconds=second),
        )
        for number, second in enumerate(seconds)
    ]


def walk(caller: Caller, limit: int, **query: str) -> list[str]:
    """Collect the ids of all pages, as the vendor's clients do."""
    found: list[str] = []
    while True:
        after = {"after": found[-1]} if found else {}
        status, page = caller.get("/evals", limit=limit, **query, **after)
        assert status == 200, page
        ids = [row["id"] for row in page["data"]]
        assert (page["first_id"], page["last_id"]) == (ids[0], ids[-1])
        found += ids
        if not page["has_more"]:
            return found
        assert len(ids) == limit


@pytest.mark.django_db
@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("order_by", ["created_at", "updated_at"])
def test_walking_the_pages_gives_each_row_once_in_order(limit: int, order_by: str):
    caller = Caller()
    made = make_evaluations(caller, [3, 1, 1, 1, 2, 3])
    expected = [
        EVAL_ID.to_representation(row.pk)
        for row in sorted(made, key=lambda row: (getattr(row, order_by), row.pk))
    ]
    assert walk(caller, limit, order_by=order_by) == expected
    assert walk(caller, limit, order_by=order_by, order="desc") == expected[::-1]


@pytest.mark.django_db
def test_an_empty_list_has_no_ids_and_no_more():
    _, page = Caller().get("/evals")
    assert page == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.django_db
def test_who_deletes_while_paging_goes_on_from_what_is_gone():
    caller = Caller()
    made = make_evaluations(caller, [1, 2, 3, 4])
    seen = []
    after: dict[str, str] = {}
    while True:
        _, page = caller.get("/evals", limit=2, **after)
        for row in page["data"]:
            seen.append(row["id"])
            caller.delete(f"/evals/{row['id']}")
        if not page["has_more"]:
            break
        after = {"after": seen[-1]}
    assert seen == [EVAL_ID.to_representation(row.pk) for row in made]


@pytest.mark.django_db
def test_a_list_cannot_begin_after_another_accounts_row():
    caller, other = Caller(), Caller(make_actor())
    (foreign,) = make_evaluations(other, [1])
    status, answer = caller.get("/evals", after=EVAL_ID.to_representation(foreign.pk))
    assert (status, answer["error"]["param"]) == (400, "after")


@pytest.mark.django_db
def test_a_page_costs_four_queries_and_counts_nothing(django_assert_num_queries):
    caller = Caller()
    made = make_evaluations(caller, list(range(5)))
    after = EVAL_ID.to_representation(made[1].pk)
    caller.get("/evals")  # the first use of a key is written down
    with django_assert_num_queries(4) as captured:  # the key, the place, the rows, their criteria
        caller.get("/evals", after=after)
    assert not any("COUNT(" in query["sql"] for query in captured)
