"""The base of management commands that call services: refusals end in one line and exit code 1."""

from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from apps.accounts.services.accounts import find_account
from apps.errors import LimitError, StateError
from apps.evaluations.models import Run
from evalplatform.dialects.kit.dialect import run_conditions


class CoreCommand(BaseCommand):
    """A command that turns the core's refusals into CommandError."""

    # They look at the code, which `make lint` has them do, and would load every face.
    requires_system_checks = ()

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        except (PermissionDenied, ObjectDoesNotExist, StateError, LimitError) as error:
            raise CommandError(str(error)) from error


def find_run(name: str, account_name: str | None) -> Run:
    """Find a run by its UUID, or by the id by which an API shows it. Raises CommandError."""
    try:
        conditions = [Q(pk=UUID(name))]
    except ValueError:
        conditions = run_conditions(name)
    if not conditions:
        raise CommandError(f"{name} is no id of a run.")
    either = reduce(or_, conditions)
    runs = Run.objects.present().filter(either).select_related("evaluation", "source_file")
    if account_name is not None:
        runs = runs.filter(account=find_account(account_name))
    found = list(runs[:2])
    if not found:
        raise CommandError(f"There is no run {name}.")
    if len(found) > 1:
        raise CommandError(f"Several accounts have a run {name}: choose one with --account.")
    return found[0]
