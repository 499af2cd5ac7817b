"""Describe a vendor's API to the rest of the server, and list the installed ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

from apps.evaluations.models import Run
from apps.webhooks.models import WebhookDelivery


@dataclass(frozen=True)
class RunExport:
    """A format of export_run: a folder that holds a run in the vendor's shapes.

    help: a clause that says what is in it. write: fills an empty folder and returns how many
    results it wrote. files: the names that `write` may give its files.
    """

    help: str
    write: Callable[[Run, Path], int]
    files: frozenset[str]


@dataclass(frozen=True)
class Dialect:
    """A vendor's API.

    name: of its schema, unique. title: the schema's. prefix: the path that its routes are below,
    "v1/". urls: the dotted name of its module of routes, imported when the server's own are.
    bare_answer: makes the error answer from a request and a status where no view answered.

    claims: tells whether a request is this dialect's, for a path that another dialect has too; it
    is called with the request and the values in its path. A dialect without it gets what no other
    claims.

    webhook_events: a run's final state -> the event that tells of it. webhook_body: makes the JSON
    object that a delivery sends. run_conditions: makes the conditions, for a query, under which a
    run has this id in the API; none for a text that is no such id. run_id: the id of a run in the
    API. run_exports: the name of a format -> the format. admin_urls: the dotted name of a module of
    routes below /admin/. doors: further paths, "v2/", that lead to the same objects -> the dotted
    name of a module of their routes, of which the schema does not tell.
    """

    name: str
    title: str
    prefix: str
    urls: str
    bare_answer: Callable[[HttpRequest, int], HttpResponse]
    claims: Callable[..., bool] | None = None
    webhook_events: Mapping[str, str] = field(default_factory=dict)
    webhook_body: Callable[[WebhookDelivery], dict[str, Any]] | None = None
    run_conditions: Callable[[str], list[Q]] | None = None
    run_id: Callable[[Run], str] | None = None
    run_exports: Mapping[str, RunExport] = field(default_factory=dict)
    admin_urls: str = ""
    doors: Mapping[str, str] = field(default_factory=dict)

    def is_below(self, path: str) -> bool:
        """Tell whether a path, without the slash before it, is below one of the dialect's own."""
        return f"{path}/".startswith((self.prefix, *self.doors))


@cache
def dialects() -> tuple[Dialect, ...]:
    """Load the DIALECT of each folder in settings.DIALECTS, in that order."""
    return tuple(import_string(f"{folder}.dialect.DIALECT") for folder in settings.DIALECTS)


def run_conditions(name: str) -> list[Q]:
    """Collect the conditions under which a run may have this id in any dialect."""
    return [
        condition
        for one in dialects()
        if one.run_conditions
        for condition in one.run_conditions(name)
    ]


def shown_run_id(run: Run) -> str:
    """Return a run's id as the first dialect that has ids for runs shows it, else its UUID."""
    return next((one.run_id(run) for one in dialects() if one.run_id), str(run.pk))


def webhook_events() -> dict[str, str]:
    """Map the events of all dialects to the final states that they tell of."""
    return {event: state for one in dialects() for state, event in one.webhook_events.items()}


def webhook_body(delivery: WebhookDelivery) -> dict[str, Any]:
    """Make the JSON object that a delivery sends, in the first dialect that has events.

    Without such a dialect the object is in our own words.
    """
    spell = next((one.webhook_body for one in dialects() if one.webhook_body), _plain_body)
    return spell(delivery)


def _plain_body(delivery: WebhookDelivery) -> dict[str, Any]:
    return {
        "id": delivery.event_id,
        "created_at": delivery.created_at.isoformat(),
        "event": delivery.event,
        "run": str(delivery.run_id),
    }


def exports() -> dict[str, RunExport]:
    """Collect the folder formats of all dialects by name."""
    return {name: export for one in dialects() for name, export in one.run_exports.items()}
