"""Models: list those that an account can ask."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import Account
from apps.accounts.roles import Action
from apps.clients import BUILT_IN
from apps.datasets.models import Dataset
from apps.inference.models import ServedModel
from apps.inference.served_models import BUILT_IN_PREFIX, UnknownModel, find_model
from apps.text import quoted
from evalplatform.dialects.kit.fields import Const
from evalplatform.dialects.kit.problems import Kind, Problem
from evalplatform.dialects.openai.envelope import Error
from evalplatform.dialects.openai.fields import UnixTime
from evalplatform.dialects.openai.viewset import OpenAIViewSet

# Built-in models learn from any labelled dataset; those of the newest are listed.
LISTED_DATASETS = 100


class ModelSerializer(serializers.Serializer):
    id = serializers.CharField()
    object = Const("model")
    created = UnixTime()
    owned_by = serializers.CharField()


class ModelList(serializers.Serializer):
    object = Const("list")
    data = ModelSerializer(many=True)  # type: ignore[assignment]  # a field of ours


class ModelViewSet(OpenAIViewSet):
    noun = "model"
    pagination_class = None
    queryset = ServedModel.objects.none()

    @extend_schema(responses={200: ModelList})
    def index(self, request: Request) -> Response:
        """Every model that the account can name: its endpoints' and the built-in ones."""
        account = self.actor.require(Action.READ)
        served = ServedModel.objects.filter(account=account, endpoint__disabled_at=None)
        data = [_shown(model.name, model.created_at, account.name) for model in served]
        data += [_shown(name, account.created_at) for name in _built_in_names(account)]
        return Response({"object": "list", "data": data})

    @extend_schema(responses={200: ModelSerializer})
    def retrieve(self, request: Request, model: str) -> Response:
        """One model; its id may hold slashes and colons."""
        account = self.actor.require(Action.READ)
        # PostgreSQL refuses to be asked for a NUL.
        name = model.replace("\0", "\ufffd")
        served = ServedModel.objects.filter(account=account, endpoint__disabled_at=None, name=name)
        if found := served.first():
            return Response(_shown(name, found.created_at, account.name))
        try:
            find_model(account.pk, name)
        except UnknownModel as error:
            return self.refusal(Problem(Kind.MISSING, str(error), ("model",), "model_not_found"))
        return Response(_shown(name, account.created_at))

    @extend_schema(responses={405: Error})
    def destroy(self, request: Request, model: str) -> Response:
        """Always refused: an account's models are its endpoints', which the admin manages."""
        self.actor.require(Action.READ)
        raise MethodNotAllowed(
            "DELETE",
            f"The model {quoted(model)} is not deleted here: disable its endpoint in the admin.",
        )


def _built_in_names(account: Account) -> Iterator[str]:
    labelled = Dataset.objects.present().filter(account=account, archived_at=None, latest_num__gt=0)
    names = list(labelled.exclude(label_field="").values_list("name", flat=True)[:LISTED_DATASETS])
    for kind, client in BUILT_IN.items():
        if client.learns:
            yield from (f"{BUILT_IN_PREFIX}{kind}:{name}" for name in names)
        else:
            yield f"{BUILT_IN_PREFIX}{kind}"


def _shown(name: str, created_at: datetime, owner: str = "evalplatform") -> dict[str, Any]:
    created = int(created_at.timestamp())
    return {"id": name, "object": "model", "created": created, "owned_by": owner}
