"""Limits of spending in the admin."""

from decimal import Decimal

import pytest
from django.urls import reverse

from apps.accounts.roles import Role
from apps.evaluations.costs import picos_of
from apps.evaluations.engine.spending import add_to_month
from apps.evaluations.models import SpendingLimits
from tests.factories import (
    make_actor,
    make_endpoint,
    make_user,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def actor():
    found = make_actor()
    make_endpoint(found, "http://127.0.0.1:9/v1", models=["m", "judge"])
    return found


def test_limits_are_set_in_the_admin_by_who_manages(client, actor) -> None:
    staff = make_actor(Role.ADMIN, account=actor.account, user=make_user(is_staff=True))
    client.force_login(staff.user)
    form = {"account": str(actor.account.pk), "monthly_budget": "12.5", "run_max_calls": "9"}
    client.post(reverse("admin:evaluations_spendinglimits_add"), form)
    limits = SpendingLimits.objects.get()
    assert (limits.monthly_budget, limits.run_max_calls) == (Decimal("12.5"), 9)
    add_to_month(actor.account.pk, picos_of(Decimal("1.25")), stripe=None)
    url = reverse("admin:evaluations_spendinglimits_change", args=[limits.pk])
    assert "1.25" in client.get(url).content.decode()
    refused = client.post(url, {"monthly_budget": "-1"}, follow=True)
    assert "A limit is 0 to" in refused.content.decode()
    editor = make_actor(Role.EDITOR, account=actor.account, user=make_user(is_staff=True))
    client.force_login(editor.user)
    client.post(url, {"monthly_budget": "99"})
    limits.refresh_from_db()
    assert limits.monthly_budget == Decimal("12.5")
    stranger = make_actor(Role.OWNER, user=make_user(is_staff=True))
    client.force_login(stranger.user)
    assert client.get(url).status_code == 302
