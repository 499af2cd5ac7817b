"""Keep a call that somebody waits for to its endpoint's pause, and tell all what came of it."""

import time
from uuid import UUID

from apps.clients import CallFailed, Limiter, Refusal
from apps.inference.paces import consult, look
from apps.inference.pacing import Report

TURNED_AWAY = "model_rate_limited"


class LiveLimiter(Limiter):
    """The limiter of one call outside of runs: it does not wait, but is turned away.

    `admit` before and `tell` after the call, outside of the event loop: they ask the tables.
    """

    def __init__(self, endpoint_id: UUID) -> None:
        self._endpoint_id = endpoint_id
        self._since = time.monotonic()
        self._is_restricted = False
        self._refusal: Refusal | None = None
        self._taken = self._tokens = 0
        self._newest_taken = 0.0

    def admit(self) -> None:
        """Take a permit where calls need one. Raises CallFailed while there is none."""
        self._is_restricted = self._endpoint_id in look([self._endpoint_id]).restricted
        if not self._is_restricted:
            return
        permission = consult(self._endpoint_id, Report(wanted=1, since=self._since))
        if permission.permits == 0:
            seconds = max(1.0, permission.ask_in_seconds)
            raise CallFailed(
                TURNED_AWAY,
                permission.given_up
                or f"The model server takes no call for now: try again in {seconds:.0f} s.",
                status=429,
                retry_after=seconds,
            )

    def taken(self, began: float, tokens: int) -> None:
        self._taken += 1
        self._tokens += tokens
        self._newest_taken = began

    def refused(self, refusal: Refusal) -> bool:
        self._refusal = refusal
        return False

    def tell(self) -> None:
        """Tell of a refusal, or where calls are limited of what the call took; once."""
        refusal, self._refusal = self._refusal, None
        taken, self._taken = self._taken, 0
        # A denial may be this caller's alone, who sends no other key but asks for another model.
        if refusal is not None and refusal.is_denial:
            refusal = None
        if refusal is None and not (self._is_restricted and taken):
            return
        report = Report(
            refusal=refusal,
            refused=int(refusal is not None),
            taken=taken,
            tokens=self._tokens,
            newest_taken=self._newest_taken,
            since=self._since,
        )
        consult(self._endpoint_id, report)
