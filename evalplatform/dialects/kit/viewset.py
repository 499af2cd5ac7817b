"""The viewset that every dialect's resources stand on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from django.http import QueryDict
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from apps.accounts.models import Actor
from apps.errors import Path
from evalplatform.dialects.kit.browsers import Negotiation
from evalplatform.dialects.kit.json import OrjsonRenderer, StrictJSONParser
from evalplatform.dialects.kit.problems import Problem, problems_of


class DialectViewSet(GenericViewSet):
    """A vendor's resource: it reads a body with a shape, calls a service and shows what comes back.

    paths: the first step of a path in the core -> the steps to the field that the caller wrote.
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
        """Return the body as it was sent. Raises DRF's ValidationError if the shape refuses it."""
        checked = shape(data=self.sent())
        checked.is_valid(raise_exception=True)
        return checked.validated_data

    def sent(self) -> Any:
        """Return the JSON of the body."""
        sent = self.request.data
        # DRF's form of an empty body, where its type says that it is a form.
        return {} if isinstance(sent, QueryDict) else sent

    def refusal(self, problem: Problem) -> Response:
        """Make the answer to one problem in the vendor's envelope."""
        raise NotImplementedError

    def refusal_for_all(self, problems: Sequence[Problem]) -> Response:
        """Answer to the first problem; a vendor whose envelope holds several overrides this."""
        return self.refusal(problems[0])

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        if isinstance(response, Response):
            response.add_post_render_callback(_let_go)
        return response

    def get_exception_handler(self) -> Any:
        return self._answer_problems

    def _answer_problems(self, error: Exception, context: Any) -> Response | None:
        problems = [self.as_written(one) for one in problems_of(error)]
        return self.refusal_for_all(problems) if problems else None

    def as_written(self, problem: Problem) -> Problem:
        """Return the problem with the path in the caller's words."""
        if not problem.path:
            return problem
        first, *others = problem.path
        return replace(problem, path=(*self.paths.get(str(first), (first,)), *others))


def _let_go(response: Response) -> None:
    """Drop what was written: request, view and response refer to each other in circles.

    The objects of a page would else lie there until a search for garbage, which takes a tenth of
    every page.
    """
    response.data = None
