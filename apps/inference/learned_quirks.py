"""Remember which forms of requests model servers refuse, and forget it again."""

from collections.abc import Callable, Collection, Iterable
from uuid import UUID

from django.db import transaction

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.clients import Lesson, Lessons
from apps.inference.models import LearnedQuirk, ModelEndpoint

QUIRKS_MAX = 1_000  # of an endpoint; the oldest go, and are learned again where they matter
WORDS_CHARS = 1_000

# An endpoint's id and what was learned of it.
Learned = tuple[UUID, Lesson]


def lessons_of(
    endpoint_ids: Collection[UUID], told: Callable[[Learned], None]
) -> dict[UUID, Lessons]:
    """Read what is known of each endpoint's models. told: hears of what is learned."""

    def teller(pk: UUID) -> Callable[[Lesson], None]:
        return lambda lesson: told((pk, lesson))

    known = {pk: Lessons(told=teller(pk)) for pk in endpoint_ids}
    kept = LearnedQuirk.objects.filter(endpoint__in=endpoint_ids) if known else ()
    for row in kept:
        known[row.endpoint_id].quirks.setdefault(row.model, []).append(row.quirk)
    return known


def remember(learned: Iterable[Learned]) -> None:
    """Keep what was learned, once, as far as its endpoints are still there."""
    lessons = [(pk, lesson) for pk, lesson in learned if len(lesson.model) <= 300]
    if not lessons:
        return
    with transaction.atomic():
        known = ModelEndpoint.objects.filter(pk__in={pk for pk, _ in lessons})
        # Locked, lest one is deleted before the rows that name it are there.
        there = set(known.order_by("pk").select_for_update().values_list("pk", flat=True))
        LearnedQuirk.objects.bulk_create(
            [
                LearnedQuirk(
                    endpoint_id=pk,
                    model=lesson.model,
                    quirk=lesson.quirk,
                    words=lesson.words[:WORDS_CHARS],
                )
                for pk, lesson in lessons
                if pk in there
            ],
            ignore_conflicts=True,
        )
        for pk in there:
            kept = LearnedQuirk.objects.filter(endpoint=pk).order_by("-id")
            surplus = list(kept.values_list("pk", flat=True)[QUIRKS_MAX : 2 * QUIRKS_MAX])
            LearnedQuirk.objects.filter(pk__in=surplus).delete()


@transaction.atomic
def forget_quirk(actor: Actor, quirk: LearnedQuirk) -> None:
    """Forget what a server refuses; it is asked so again, and may refuse it again."""
    actor.require(Action.MANAGE, quirk.endpoint.account)
    before = {"model": quirk.model, "quirk": quirk.quirk}
    record(actor, "endpoint.forget", quirk.endpoint, before=before)
    quirk.delete()
