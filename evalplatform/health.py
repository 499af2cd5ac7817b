"""Answer load balancers, orchestrators and Prometheus: alive, ready, how busy."""

from collections.abc import Callable
from functools import cache

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from django_q.brokers import get_broker
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from apps.bells import SERVICE_ERRORS
from apps.evaluations.models import Run
from apps.evaluations.services.workers import count_workers


def is_migrated() -> bool:
    """Tell whether the database has had each app's last migration."""
    return _last_migrations() <= MigrationRecorder(connection).applied_migrations().keys()


@cache
def _last_migrations() -> frozenset[tuple[str, str]]:
    """Name, by app and name, the last migrations of the code, which stays as it is."""
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).graph.leaf_nodes())


@require_safe
def alive(request: HttpRequest) -> JsonResponse:
    """Answer 200 as long as this process answers at all, touching nothing else."""
    return JsonResponse({"status": "alive"})


@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Answer 200 when the database is migrated, the queue reachable, and a worker ready."""
    checks = {name: _checked(check) for name, check in CHECKS.items()}
    is_ready = all(said == "ok" for said in checks.values())
    body = {"status": "ready" if is_ready else "not ready", **checks}
    return JsonResponse(body, status=200 if is_ready else 503)


def _checked(check: Callable[[], str]) -> str:
    try:
        return check() or "ok"
    except SERVICE_ERRORS as error:
        # The message may hold addresses; who may see those reads the log.
        return f"cannot be reached ({type(error).__name__})"


def _database() -> str:
    return "" if is_migrated() else "has migrations to run"


def _queue() -> str:
    get_broker().queue_size()
    return ""


def _workers() -> str:
    return "" if count_workers().ready else "none was seen lately"


CHECKS = {"database": _database, "queue": _queue, "workers": _workers}


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Report figures of the whole installation, none of them an account's own."""
    registry = CollectorRegistry()
    runs = Gauge(
        "evalplatform_unfinished_runs", "Runs queued and running.", ["state"], registry=registry
    )
    counts = dict(Run.objects.unfinished().order_by().values_list("state").annotate(Count("pk")))
    for state in (Run.State.QUEUED, Run.State.RUNNING):
        runs.labels(state).set(counts.get(state, 0))
    workers = count_workers()
    Gauge("evalplatform_workers", "Workers kept ready.", registry=registry).set(workers.ready)
    Gauge("evalplatform_busy_workers", "Tasks at work.", registry=registry).set(workers.busy)
    Gauge("evalplatform_queue_size", "Bells that wait.", registry=registry).set(
        get_broker().queue_size()
    )
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
