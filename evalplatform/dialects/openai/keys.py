"""Authenticate by the headers in which the vendor's clients send a key."""

from typing import Any

from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
)
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from apps.accounts.services.actors import actor_for_key
from evalplatform.sessions import request_id_of


class BearerKey(BaseAuthentication):
    """Authenticate by `Authorization: Bearer <key>`, or by `api-key: <key>` as Azure's clients do.

    Where both are sent, the first counts.
    """

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        secret = _key_of(request)
        if secret is None:
            return None
        actor = actor_for_key(secret, request_id_of(request))
        if actor is None:
            raise AuthenticationFailed("This API key does not exist, or no longer.")
        return (actor.user, actor)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def _key_of(request: Request) -> str | None:
    header = request.META.get("HTTP_AUTHORIZATION")
    if header is None:
        # contract: openai, additions, doors
        return request.META.get("HTTP_API_KEY")
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise AuthenticationFailed("Send the key as Authorization: Bearer YOUR_KEY.")
    return secret.strip()


class BearerKeyScheme(OpenApiAuthenticationExtension):
    target_class = BearerKey
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer"}
