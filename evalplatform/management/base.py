"""What our commands share: the core's refusals become one line on stderr and exit code 1."""

from typing import Any

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from django.core.management.base import BaseCommand, CommandError

from apps.errors import LimitError, StateError


class CoreCommand(BaseCommand):
    """A command that calls a service."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        except (PermissionDenied, ObjectDoesNotExist, StateError, LimitError) as error:
            raise CommandError(str(error)) from error
