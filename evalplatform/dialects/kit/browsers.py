"""Let a signed-in browser call a dialect: its session stands for a key, and it gets a page."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import SessionAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from apps.accounts.services.actors import actor_for_user
from evalplatform.sessions import SELECTED_ACCOUNT, request_id_of


class Negotiation(BaseContentNegotiation):
    """Choose the view's one parser, and JSON whatever the client accepts; HTML for a browser.

    A request is a browser's when it accepts HTML, sends no key and has a session.
    """

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        wants_page = "text/html" in request.META.get("HTTP_ACCEPT", "")
        is_browser = (
            wants_page
            and "HTTP_AUTHORIZATION" not in request.META
            and request._request.user.is_authenticated
        )
        renderer = [*renderers][-1 if is_browser else 0]
        return renderer, renderer.media_type


class BrowserSession(SessionAuthentication):
    """Authenticate a signed-in browser by its session; unsafe methods need Django's CSRF token."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        selected = request.session.get(SELECTED_ACCOUNT)
        actor = actor_for_user(found[0], selected, request_id_of(request))
        return (found[0], actor) if actor else None


class BrowserSessionScheme(OpenApiAuthenticationExtension):
    target_class = BrowserSession
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
