"""`manage.py worker`: work on runs, beside the machine that serves the web."""

import signal
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, close_old_connections, connections

from apps.evaluations.tasks import is_stuck, sweep
from evalplatform.health import is_migrated
from evalplatform.supervisor import ROOT, Service, Supervisor

P = ParamSpec("P")
R = TypeVar("R")


def on_a_live_connection(work: Callable[P, R]) -> Callable[P, R]:
    """Wrap `work` so that a database connection that broke since then is replaced first."""

    @wraps(work)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        close_old_connections()
        return work(*args, **kwargs)

    return wrapped


class Command(BaseCommand):
    help = "Work on runs until Ctrl-C or SIGTERM, without serving the web."
    # They look at the code, which `make lint` has them do, and would load every face.
    requires_system_checks = ()

    def handle(self, **options: Any) -> None:
        # Until the supervisor minds the signals, both end the preparations alike, also where a
        # shell that started us in the background has SIGINT ignored.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler)
        try:
            services = self.services(**options)
            self.prepare_database()
        except OperationalError as error:
            raise CommandError(f"The database does not answer: {error}") from error
        except KeyboardInterrupt:
            return
        finally:
            connections.close_all()
        Supervisor(
            services,
            ready=lambda: self.ready(**options),
            announce=lambda: self.announce(**options),
            sweep=on_a_live_connection(sweep),
            is_stuck=on_a_live_connection(is_stuck),
            sweep_seconds=settings.ENGINE_SWEEP_SECONDS,
            stuck_seconds=settings.ENGINE_STUCK_SECONDS,
        ).run()

    def services(self, **options: Any) -> list[Service]:
        """List the services to run, the cluster last. Raises CommandError when one cannot."""
        manage = str(ROOT / "manage.py")
        return [Service("cluster", [manage, "qcluster"], {"EVALPLATFORM_ROLE": "cluster"})]

    def prepare_database(self) -> None:
        """Wait until the machine that serves the web has migrated."""
        has_said = False
        while not is_migrated():
            if not has_said:
                self.say("Waiting for the database to be migrated")
                has_said = True
            time.sleep(1)

    def ready(self, **options: Any) -> bool:
        return True

    def announce(self, **options: Any) -> None:
        self.say(f"Evalplatform works with {settings.WORKERS} processes  (Ctrl-C stops it)")

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
