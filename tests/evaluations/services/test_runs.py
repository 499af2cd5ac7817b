"""Runs are started, canceled, retried and deleted, by those who may."""

import threading

import pytest
from django.core.exceptions import ObjectDoesNotExist
from django.db import connection
from django.utils import timezone

from apps.datasets.models import File
from apps.datasets.stored_files import delete_file, purge_files, read_file, store_file
from apps.errors import StateError
from apps.evaluations.engine.purge import purge_runs
from apps.evaluations.models import Result, Run, Shard
from apps.evaluations.services import runs as runs_module
from apps.evaluations.services.evaluations import (
    delete_evaluation,
)
from apps.evaluations.services.runs import cancel_run, delete_run, retry_errored
from apps.evaluations.targets import Chat
from apps.inference.served_models import UnknownModel
from tests.evaluations.engine.soundness import check_all_runs
from tests.evaluations.engine.workers import work_until_idle
from tests.evaluations.refusals import actions, refused
from tests.factories import (
    ask,
    make_actor,
    make_evaluation,
    make_rows,
    make_run,
)
from tests.patience import patience

pytestmark = pytest.mark.django_db
TEXTS = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


@pytest.fixture
def actor():
    return make_actor()


@pytest.mark.parametrize("name", ["nobody", "builtin/nobody", "builtin/echo:x", "builtin/nearest"])
def test_an_unknown_model_is_refused_before_anything_is_stored(actor, name):
    evaluation = make_evaluation(actor)
    files = File.objects.count()
    with pytest.raises(UnknownModel):
        make_run(actor, evaluation=evaluation, target=ask(name))
    assert not Run.objects.exists()
    assert File.objects.count() == files


def test_a_run_keeps_what_it_was_started_with(actor):
    run = make_run(
        actor,
        target=ask("builtin/echo", params={"temperature": 0}),
        name="first",
        metadata={"a": "b"},
        repeats=2,
        on_error="fail",
        dialect="some",
        spec={"x": [1]},
    )
    run.refresh_from_db()
    assert (run.state, run.name, run.model) == (Run.State.QUEUED, "first", "builtin/echo")
    assert (run.metadata, run.spec) == ('{"a":"b"}', '{"x":[1]}')
    assert (run.repeats, run.on_error, run.created_by) == (2, "fail", actor.user)
    assert run.read_target()["params"] == {"temperature": 0}
    assert "run.start" in actions()


def test_rows_of_a_request_are_kept_as_they_came_and_listed_nowhere(actor):
    rows = [{"item": {"b": 1, "a": [2.50, "ü"]}, "sample": {"output_text": "x"}}, {"item": {}}]
    run = make_run(actor, source=rows)
    assert run.source_file.is_inline
    content = b"".join(read_file(run.source_file.pk))
    assert content == (
        '{"item":{"b":1,"a":[2.5,"ü"]},"sample":{"output_text":"x"}}\n{"item":{}}\n'.encode()
    )


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ([], "object"),
        ({}, "missing"),
        ({"item": []}, "object"),
        ({"item": {"text": "a"}, "sample": None}, "sample"),
        ({"item": {"text": 1}}, "item.text"),
        ({"item": {}}, "text"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_its_number(actor, row, word):
    evaluation = make_evaluation(actor, criteria=[], item_schema=TEXTS)
    rows = [{"item": {"text": "fine"}}, row]
    refusal = refused(lambda: make_run(actor, evaluation=evaluation, source=rows), "source[1]")
    assert word in refusal.message
    assert not Run.objects.exists()
    assert not File.objects.exists()


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": "x" * 3_001}, "name"),
        ({"repeats": 0}, "repeats"),
        ({"target": ask("builtin/echo", "{{ item.typo }}")}, "messages"),
        ({"target": Chat("builtin/echo", reference="item.typo")}, "reference"),
    ],
)
def test_a_run_that_could_not_work_is_refused_by_its_path(actor, fields, path):
    schema = {**TEXTS, "additionalProperties": False}
    evaluation = make_evaluation(actor, criteria=[], item_schema=schema)
    rows = [{"item": {"text": "a"}}]
    refused(lambda: make_run(actor, evaluation=evaluation, source=rows, **fields), path)
    assert not Run.objects.exists()


def test_the_bell_rings_only_when_the_run_is_really_there(
    actor, monkeypatch, django_capture_on_commit_callbacks
):
    rung = []
    monkeypatch.setattr("apps.evaluations.tasks.ring", lambda: rung.append(True))
    with django_capture_on_commit_callbacks() as callbacks:
        make_run(actor)
    assert not rung
    for callback in callbacks:
        callback()
    assert rung == [True]


def test_no_run_starts_over_what_has_just_been_deleted(actor):
    file = store_file(actor, filename="a", purpose="evals", chunks=[b'{"item": {}}'])
    evaluation = make_evaluation(actor)
    delete_file(actor, file)
    with pytest.raises(ObjectDoesNotExist):
        make_run(actor, evaluation=evaluation, source=file)
    delete_evaluation(actor, evaluation)
    with pytest.raises(ObjectDoesNotExist):
        make_run(actor, evaluation=evaluation)
    assert not Run.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["file", "evaluation"])
def test_who_deletes_what_a_run_is_being_started_over_waits_for_it(actor, what, monkeypatch):
    """The deletion finds the run: the file's bytes stay, the evaluation's run is stopped."""
    file = store_file(actor, filename="a", purpose="evals", chunks=[b'{"item": {}}'])
    evaluation = make_evaluation(actor)
    deleting = {
        "file": lambda: delete_file(actor, file),
        "evaluation": lambda: delete_evaluation(actor, evaluation),
    }[what]

    def delete():
        deleting()
        connection.close()

    thread = threading.Thread(target=delete)
    real = runs_module.record

    def record(*arguments, **fields):
        # The run is stored, and not yet committed.
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        real(*arguments, **fields)

    monkeypatch.setattr(runs_module, "record", record)
    run = make_run(actor, evaluation=evaluation, source=file)
    thread.join(patience(10))
    run.refresh_from_db()
    if what == "evaluation":
        assert run.state == Run.State.CANCELED
    else:
        assert purge_files() == 0
        assert b"".join(read_file(file.pk)) == b'{"item": {}}'


def finished(actor, **fields):
    run = make_run(actor, **fields)
    work_until_idle()
    run.refresh_from_db()
    assert run.is_final
    return run


def test_canceling_again_is_harmless_and_recorded_once(actor):
    run = make_run(actor)
    first = cancel_run(actor, run)
    assert first.state == Run.State.CANCELED
    ended = first.finished_at
    assert cancel_run(actor, run).finished_at == ended
    assert actions().count("run.cancel") == 1


@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_over_cannot_be_canceled(actor):
    run = finished(actor)
    with pytest.raises(StateError, match="completed"):
        cancel_run(actor, run)
    run.refresh_from_db()
    assert run.state == Run.State.COMPLETED


@pytest.mark.django_db(transaction=True)
def test_a_deleted_run_is_hidden_at_once_and_its_rows_go_in_pieces(actor, monkeypatch):
    monkeypatch.setattr("apps.evaluations.engine.purge.PIECE", 4)
    run = finished(actor, source=10)
    kept = finished(actor, source=3)
    delete_run(actor, run)
    assert list(Run.objects.visible_to(actor).present()) == [kept]
    purge_runs(pieces=1)
    assert Result.objects.of_run(run).count() == 6
    while purge_runs():
        pass
    assert list(Run.objects.all()) == [kept]
    assert (Result.objects.count(), Shard.objects.count()) == (3, 1)
    check_all_runs()


@pytest.mark.django_db(transaction=True)
def test_the_rows_of_a_request_go_with_the_last_run_that_reads_them(actor):
    run = finished(actor, source=[{"item": {}}, *make_rows(2)])
    again = retry_errored(actor, run)
    work_until_idle()
    assert run.source_file.expires_at > timezone.now()
    File.objects.update(expires_at=timezone.now())
    delete_run(actor, run)
    while purge_runs():
        pass
    assert Run.objects.get() == again
    assert purge_files() == 0
    delete_run(actor, again)
    while purge_runs():
        pass
    assert purge_files() == 1
    assert not File.objects.exists()


def test_rows_of_a_run_that_is_just_being_stored_are_not_purged(actor, monkeypatch):
    real = runs_module.store_file

    def store_and_sweep(*arguments, **fields):
        file = real(*arguments, **fields)
        assert purge_files() == 0
        return file

    monkeypatch.setattr(runs_module, "store_file", store_and_sweep)
    assert make_run(actor).source_file is not None


def test_deleting_a_run_stops_it(actor):
    run = make_run(actor)
    delete_run(actor, run)
    run.refresh_from_db()
    assert run.state == Run.State.CANCELED
    delete_run(actor, run)
    assert actions().count("run.delete") == 1


@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_being_retried_is_purged_only_when_the_retry_has_what_it_needs(actor):
    run = finished(actor, source=[{"item": {}}, *make_rows(5)])
    again = retry_errored(actor, run)
    delete_run(actor, run)
    while purge_runs():
        pass
    assert Result.objects.of_run(run).count() == 6
    work_until_idle()
    while purge_runs():
        pass
    again.refresh_from_db()
    assert not Run.objects.filter(pk=run.pk).exists()
    assert (again.state, again.retry_of, again.errored_count) == (Run.State.COMPLETED, None, 1)
    check_all_runs()


def test_a_run_that_is_going_cannot_be_retried(actor):
    with pytest.raises(StateError, match="still going"):
        retry_errored(actor, make_run(actor))


@pytest.mark.django_db(transaction=True)
def test_a_run_without_a_fault_cannot_be_retried(actor):
    run = finished(actor)
    with pytest.raises(StateError, match="Nothing in this run is errored"):
        retry_errored(actor, run)


@pytest.mark.django_db(transaction=True)
def test_a_deleted_run_cannot_be_retried(actor):
    run = finished(actor, source=[{"item": {}}])
    delete_run(actor, run)
    with pytest.raises(ObjectDoesNotExist):
        retry_errored(actor, run)


@pytest.mark.django_db(transaction=True)
def test_a_retry_stands_for_itself_and_links_back(actor):
    run = finished(actor, source=[{"item": {}}, *make_rows(5)], name="n" * 3_000)
    again = retry_errored(actor, run)
    assert again.retry_of == run
    assert again.name.endswith(" (retry)")
    assert len(again.name) == 3_000
    assert again.source_file == run.source_file
    before = run.finished_at
    work_until_idle()
    run.refresh_from_db()
    assert run.finished_at == before
    check_all_runs()
