"""Planning: every row in one shard, nothing seen before its time, and planners that die."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.accounts.models import Actor
from apps.datasets.stored_files import store_file
from apps.evaluations.engine import copy as copy_module
from apps.evaluations.engine import plan as plan_module
from apps.evaluations.engine import source as source_module
from apps.evaluations.engine.plan import claim_plan, plan_run
from apps.evaluations.engine.source import shard_rows
from apps.evaluations.engine.store import Batch, store
from apps.evaluations.engine.sweep import sweep_runs
from apps.evaluations.models import Result, Run, Shard
from apps.evaluations.packing import Packed
from apps.evaluations.services.runs import cancel_run, retry_errored
from apps.grading.graders.base import Mark
from apps.leases import database_now
from apps.strict_json import dump_json
from tests.evaluations.engine.shards import (
    claim,
    coordinator,
    errored,
    hold,
    outcome,
    plan,
    plan_of,
    poll,
)
from tests.factories import ask, make_actor, make_evaluation, make_run, make_version
from tests.judgements import judgements

pytestmark = pytest.mark.django_db


@pytest.fixture
def actor() -> Actor:
    return make_actor()


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(plan_module, "GRADING_ROWS", 3)
    monkeypatch.setattr(plan_module, "SHARDS_AT_ONCE", 2)
    monkeypatch.setattr(source_module, "CASES_AT_ONCE", 2)


def upload(actor, content):
    return store_file(actor, filename="rows.jsonl", purpose="evals", chunks=[content])


def over_file(actor, content, **fields):
    return make_run(actor, source=upload(actor, content), **fields)


def planned_rows(run):
    run = Run.objects.get(pk=run.pk)
    return [row for shard in run.shards.order_by("number") for row in shard_rows(run, shard)]


def expire(run):
    Run.objects.filter(pk=run.pk).update(plan_until=database_now() - timedelta(seconds=1))


def state(run):
    run.refresh_from_db()
    return run.state


JSON_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
LINES = st.lists(st.one_of(JSON_TEXT, st.sampled_from([None, None])), max_size=25)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=LINES, end=st.sampled_from([b"\n", b"\r\n"]), mark=st.sampled_from([b"", b"\xef\xbb\xbf"])
)
def test_every_line_of_a_file_is_a_row_once_and_in_order(actor, small_shards, texts, end, mark):
    lines = [
        b"" if text is None else dump_json({"item": {"text": text}}).encode() for text in texts
    ]
    run = over_file(actor, mark + end.join(lines), on_empty="complete")
    plan(run)
    wanted = [text for text in texts if text is not None]
    assert [(row.index, row.item["text"]) for row in planned_rows(run)] == list(enumerate(wanted))
    assert run.row_count == len(wanted)
    assert [shard.row_count for shard in run.shards.all()][:-1] == [3] * ((len(wanted) - 1) // 3)


def test_the_cases_of_a_version_are_its_rows(actor, small_shards):
    items = [{"text": f"case {number}"} for number in range(8)]
    version = make_version(actor, items=items)
    run = plan(make_run(actor, source=version))
    assert [row.item for row in planned_rows(run)] == items
    assert [shard.row_count for shard in run.shards.all()] == [3, 3, 2]


@pytest.mark.parametrize("kind", ["file", "version"])
def test_a_shard_holds_no_more_text_than_it_may(actor, monkeypatch, kind):
    monkeypatch.setattr(plan_module, "SHARD_BYTES", 1_000)
    items = [{"text": "x" * 400, "label": str(number)} for number in range(5)]
    if kind == "version":
        run = make_run(actor, source=make_version(actor, items=items))
    else:
        run = make_run(actor, source=[{"item": item} for item in items])
    plan(run)
    assert [shard.row_count for shard in run.shards.all()] == [2, 2, 1]


def test_shards_that_ask_are_smaller(actor, monkeypatch):
    monkeypatch.setattr(plan_module, "ASKING_ROWS", 2)
    run = plan(make_run(actor, source=5, target=ask()))
    assert [shard.row_count for shard in run.shards.all()] == [2, 2, 1]


def test_shards_are_work_only_when_all_of_them_are_there(actor, small_shards, monkeypatch):
    run = make_run(actor, source=9)
    monkeypatch.setattr(plan_module, "_show", lambda *_: None)
    plan_run(plan_of(run))
    assert run.shards.count() == 3
    assert not poll(coordinator()).claims
    assert not sweep_runs()


def test_repeats_multiply_the_results_to_come(actor):
    run = plan(make_run(actor, source=4, repeats=3))
    assert (run.row_count, run.total_count) == (4, 12)


GOOD = b'{"item": {"text": "a"}}\n'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nonsense", "line 4: invalid literal, expected 'null' at column 1"),
        (b"[1]", "line 4: a row must be an object with the key item."),
        (b'{"sample": {}}', "line 4: item is missing."),
        (b'{"item": "a"}', "line 4: item must be an object."),
        (b'{"item": {}, "sample": null}', "line 4: sample must be an object."),
        (b'{"item": {"text": NaN}}', "line 4: "),
        (b'{"item": {"text": "\xff"}}', "line 4: "),
        (b'{"item": {"text": 7}}', "line 4: item.text: "),
    ],
)
def test_the_first_row_that_cannot_be_used_fails_the_run_with_its_line(actor, line, reason):
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    evaluation = make_evaluation(actor, criteria=[], item_schema=schema)
    content = GOOD + b"\n" + GOOD + line + b"\n" + GOOD + b"rubbish\n"
    run = over_file(actor, content, evaluation=evaluation)
    plan(run)
    assert (run.state, run.error_code) == (Run.State.FAILED, "invalid_row")
    assert run.error_message.startswith(reason)
    assert not poll(coordinator()).claims


def test_a_case_that_does_not_fit_the_schema_fails_the_run_with_its_number(actor):
    schema = {"type": "object", "required": ["label"]}
    evaluation = make_evaluation(actor, criteria=[], item_schema=schema)
    version = make_version(actor, items=[{"label": "a"}, {"text": "b"}])
    run = plan(make_run(actor, evaluation=evaluation, source=version))
    assert (run.state, run.error_code) == (Run.State.FAILED, "invalid_row")
    assert run.error_message.startswith("case 1: ")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    ("on_empty", "expected"),
    [
        ("fail", (Run.State.FAILED, "empty_source", "The source has no rows.")),
        ("complete", (Run.State.COMPLETED, "", "")),
    ],
)
def test_an_empty_source_ends_the_run_as_it_wants(actor, content, on_empty, expected):
    run = over_file(actor, content, on_empty=on_empty)
    plan(run)
    assert (run.state, run.error_code, run.error_message) == expected
    assert run.total_count == 0


def test_a_run_is_planned_by_one(actor):
    run = make_run(actor)
    assert plan_of(run) is not None
    assert plan_of(run) is None


def test_the_oldest_run_is_planned_first(actor):
    first = make_run(actor)
    make_run(actor)
    assert poll(coordinator(), may_plan=True).plan == first


def test_what_a_dead_planner_left_is_removed_by_the_next(actor, small_shards, monkeypatch):
    run = make_run(actor, source=9)
    dead = plan_of(run)
    with monkeypatch.context() as patch:
        patch.setattr(plan_module, "_show", lambda *_: None)
        plan_run(dead)
    left = set(run.shards.values_list("pk", flat=True))
    expire(run)
    assert sweep_runs()
    plan(run)
    assert run.state == Run.State.RUNNING
    assert left.isdisjoint(run.shards.values_list("pk", flat=True))
    assert len(planned_rows(run)) == 9


def test_a_late_planner_touches_nothing_of_its_successors(actor, small_shards):
    run = make_run(actor, source=9)
    late = plan_of(run)
    expire(run)
    plan(run)
    shards = list(run.shards.values_list("pk", flat=True))
    plan_run(late)
    assert state(run) == Run.State.RUNNING
    assert list(run.shards.values_list("pk", flat=True)) == shards


def test_a_planner_that_is_late_in_the_middle_leaves_no_shards(actor, small_shards, monkeypatch):
    """It loses its run between two pieces of its shards: the second piece is never written."""
    run = make_run(actor, source=9)
    late = plan_of(run)
    real = plan_module._keep

    def keep(run, shards):
        real(run, shards)
        expire(run)
        assert plan_of(run) is not None

    monkeypatch.setattr(plan_module, "_keep", keep)
    plan_run(late)
    assert run.shards.count() == 2
    assert state(run) == Run.State.QUEUED


def test_a_late_planner_does_not_end_the_run(actor):
    run = over_file(actor, b"rubbish")
    late = plan_of(run)
    expire(run)
    plan_of(run)
    plan_run(late)
    assert state(run) == Run.State.QUEUED


def test_a_planner_that_was_late_to_renew_keeps_its_run(actor):
    run = make_run(actor)
    holder = plan_of(run)
    expire(run)

    found = Run.objects.plannable(database_now()).get()
    plan_module.renew(holder)
    assert not claim_plan(found)


def test_a_run_whose_planners_died_is_planned_by_a_worker_with_nothing_else_to_do(actor):
    run = make_run(actor)
    for _ in range(3):
        assert plan_of(run) is not None
        expire(run)
    other = plan(make_run(actor))
    wary = coordinator()
    assert poll(wary, may_plan=True, is_free=False).plan is None
    waiting = poll(wary, may_plan=True, is_free=False)
    assert (waiting.plan, waiting.claims, waiting.has_more) == (None, [], True)
    found = poll(wary, may_plan=True)
    assert (found.plan, found.isolated, found.claims) == (run, True, [])
    plan_run(found.plan)
    assert {one.shard.run_id for one in poll(wary).claims} == {run.pk, other.pk}


def test_a_canceled_run_is_planned_no_further(actor, small_shards):
    run = make_run(actor, source=9)
    planner = plan_of(run)
    cancel_run(actor, run)
    plan_run(planner)
    assert state(run) == Run.State.CANCELED
    assert not run.shards.exists()
    assert (run.total_count, run.started_at) == (0, None)


def test_a_source_that_kills_every_planner_fails_the_run(actor):
    run = make_run(actor)
    for _ in range(6):
        assert plan_of(run) is not None
        expire(run)
    plan(run)
    assert (run.state, run.error_code) == (Run.State.FAILED, "source_unusable")


def test_a_planner_that_is_called_off_gives_the_run_back(actor, monkeypatch):
    run = make_run(actor)
    planner = plan_of(run)
    with monkeypatch.context() as patch:
        patch.setattr(plan_module, "is_called_off", lambda: True)
        plan_run(planner)
    run.refresh_from_db()
    assert (run.state, run.plan_attempts, run.plan_until) == (Run.State.QUEUED, 0, None)
    assert plan(run).state == Run.State.RUNNING


def test_a_planner_prolongs_its_lease_while_it_reads(actor, small_shards, settings):
    settings.ENGINE_LOOK_SECONDS = 0
    run = make_run(actor, source=9)
    planner = plan_of(run)
    soon = database_now() + timedelta(seconds=1)
    Run.objects.update(plan_until=soon)
    next(plan_module._cut(planner))
    run.refresh_from_db()
    assert run.plan_until > soon


@pytest.fixture
def done_but_two(actor, small_shards):
    """A canceled run of two repeats: row 1 errored once, of row 8 one repeat is missing."""
    run = plan(make_run(actor, source=9, repeats=2))
    for claimed in poll(coordinator()).claims:
        held = hold(claimed)
        found = [
            outcome(
                claimed,
                row.index,
                repeat,
                **(
                    {"fault": errored()}
                    if (row.index, repeat) == (1, 0)
                    else {"mark": Mark(row.index / 8, row.index > 4, f"evidence {row.index}")}
                ),
            )
            for row, repeat in claimed.todo
            if (row.index, repeat) != (8, 1)
        ]
        store([Batch(held, found)])
    return cancel_run(actor, run)


def test_a_retry_copies_what_is_finished_and_leaves_the_rest_to_do(actor, done_but_two):
    again = plan(retry_errored(actor, done_but_two))
    assert (again.state, again.total_count, again.retry_of) == ("running", 18, done_but_two)
    assert Result.objects.of_run(again).count() == 16
    todo = [(row.index, repeat) for c in poll(coordinator()).claims for row, repeat in c.todo]
    assert sorted(todo) == [(1, 0), (8, 1)]
    fields = ("row_index", "repeat", "state", *Packed._fields)
    kept = Result.objects.of_run(done_but_two).exclude(state="errored").values_list(*fields)
    assert set(Result.objects.of_run(again).values_list(*fields)) == set(kept)


def test_a_retry_completes_with_what_was_missing(actor, done_but_two):
    again = plan(retry_errored(actor, done_but_two))
    for claimed in poll(coordinator()).claims:
        store([Batch(hold(claimed), [outcome(claimed, r.index, k) for r, k in claimed.todo])])
    assert not sweep_runs()
    assert state(again) == Run.State.COMPLETED
    assert (again.errored_count, again.passed_count) == (0, 9)


def test_a_copy_writes_no_large_transactions(actor, done_but_two, monkeypatch):
    monkeypatch.setattr(copy_module, "ROWS_AT_ONCE", 2)
    sizes = []
    real = Result.objects.bulk_create
    monkeypatch.setattr(
        type(Result.objects),
        "bulk_create",
        lambda self, rows: sizes.append(len(rows)) or real(rows),
    )
    plan(retry_errored(actor, done_but_two))
    assert max(sizes) <= 2


def test_what_a_dead_planner_had_copied_is_removed_first(actor, done_but_two, monkeypatch):
    again = retry_errored(actor, done_but_two)
    with monkeypatch.context() as patch:
        patch.setattr(plan_module, "_show", lambda *_: None)
        plan_run(plan_of(again))
    assert Result.objects.of_run(again).count() == 16
    expire(again)
    plan(again)
    assert Result.objects.of_run(again).count() == 16
    assert len(judgements(again)) == 16


def test_a_late_planner_copies_nothing(actor, done_but_two):
    again = retry_errored(actor, done_but_two)
    late = plan_of(again)
    expire(again)
    plan(again)
    plan_run(late)
    assert Result.objects.of_run(again).count() == 16


def test_a_retry_of_a_run_that_was_never_planned_reads_the_source(actor):
    run = cancel_run(actor, make_run(actor, source=4))
    again = plan(retry_errored(actor, run))
    assert (again.state, again.total_count) == (Run.State.RUNNING, 4)
    assert Shard.objects.filter(run=again).count() == 1


def test_a_shard_of_a_retry_with_nothing_left_is_finished(actor, done_but_two):
    again = plan(retry_errored(actor, done_but_two))
    finished = [shard.finished_at is not None for shard in again.shards.order_by("number")]
    assert finished == [False, True, False]
    assert claim(again).shard.number == 0
