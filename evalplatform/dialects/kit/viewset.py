"""The viewset that every dialect's resources stand on, and who may call it with a session."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from django.conf import settings
from django.http import QueryDict
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import SessionAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from apps.accounts.models import Actor
from apps.accounts.services import actor_for_user
from apps.errors import Path
from evalplatform.dialects.kit.json import OrjsonRenderer, StrictJSONParser
from evalplatform.dialects.kit.problems import Problem, problems_of
from evalplatform.sessions import SELECTED_ACCOUNT, request_id_of


class Negotiation(BaseContentNegotiation):
    """The view's one parser, and JSON whatever a program accepts; a page for a signed-in browser.

    A browser shows itself by accepting HTML, sending no key and having a session.
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
    """The actor of a signed-in browser that sent no key; what changes things needs CSRF's token."""

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


class DialectViewSet(GenericViewSet):
    """A vendor's resource: reads with its shapes, calls a service, dresses what comes back.

    paths: the first step of a core path -> where the caller wrote that.
    """

    parser_classes = [StrictJSONParser]
    renderer_classes = [OrjsonRenderer, BrowsableAPIRenderer]
    content_negotiation_class = Negotiation
    # No OPTIONS: its answer would speak DRF's language, not the vendor's.
    http_method_names = ["get", "post", "put", "patch", "delete", "head"]
    paths: ClassVar[Mapping[str, Path]] = {}

    @property
    def actor(self) -> Actor:
        actor = self.request.auth
        assert isinstance(actor, Actor)
        return actor

    def body(self, shape: type[Any]) -> dict[str, Any]:
        """The request's body as it was sent, once the shape has found nothing wrong with it."""
        sent = self.request.data
        # DRF's form of an empty body, where its type says that it is a form.
        checked = shape(data={} if isinstance(sent, QueryDict) else sent)
        checked.is_valid(raise_exception=True)
        return checked.validated_data

    def dress(self, problem: Problem) -> Response:
        """The problem in the vendor's envelope."""
        raise NotImplementedError

    def dress_all(self, problems: Sequence[Problem]) -> Response:
        """The first problem; a vendor whose envelope holds several overrides this."""
        return self.dress(problems[0])

    def get_exception_handler(self) -> Any:
        return self._answer_problems

    def _answer_problems(self, error: Exception, context: Any) -> Response | None:
        problems = problems_of(error)
        return self.dress_all([self._as_written(one) for one in problems]) if problems else None

    def _as_written(self, problem: Problem) -> Problem:
        """The problem with the path as the caller knows it."""
        if not problem.path:
            return problem
        first, *others = problem.path
        return replace(problem, path=(*self.paths.get(str(first), (first,)), *others))
