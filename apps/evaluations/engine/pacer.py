"""Ask the tables how many calls a worker may begin at endpoints that refuse some."""

import time
from collections.abc import Collection, Mapping
from uuid import UUID

from django.conf import settings

from apps.inference.paces import consult, look, raise_concurrency
from apps.inference.pacing import FREE, Permission, Report


class Pacer:
    """One worker's permits; used in the coordinator's thread.

    Endpoints that never refused a call, and have no limits set by hand, cost one query now and
    then, for all of them together.
    """

    def __init__(self) -> None:
        self._known: set[UUID] = set()  # those that were looked at
        self._restricted: set[UUID] = set()
        self._looked_at = 0.0

    def answer(
        self, held: Collection[UUID], claimed: Collection[UUID], reports: Mapping[UUID, Report]
    ) -> dict[UUID, Permission]:
        """Answer the reports, and say what has changed at the other endpoints.

        held: those that the loop knows. claimed: those that it will ask for what was just claimed;
        it knows nothing of them where it does not hold them.
        """
        self._known &= set(held)
        self._restricted &= set(held)
        answers = {pk: self._consult(pk, report) for pk, report in reports.items()}
        now = time.monotonic()
        others = ({*held} | {*claimed}) - answers.keys()
        is_due = now - self._looked_at >= settings.ENGINE_LOOK_SECONDS
        if not (others - self._known or (others and is_due)):
            return answers
        found = look(others)
        for pk in found.restricted - self._restricted:
            answers[pk] = self._consult(pk, Report())
        for pk in (others & self._restricted) - found.restricted:
            answers[pk] = FREE
        self._restricted -= others - found.restricted
        self._known |= others
        if is_due:
            self._looked_at = now
            if found.lowered:
                raise_concurrency(found.lowered)
        return answers

    def _consult(self, endpoint_id: UUID, report: Report) -> Permission:
        permission = consult(endpoint_id, report)
        if permission.permits is None:
            self._restricted.discard(endpoint_id)
        else:
            self._restricted.add(endpoint_id)
        return permission
