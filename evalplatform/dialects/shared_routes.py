"""Route the paths that several dialects have, and answer in an envelope where no view answered."""

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, include, path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.response import Response

from evalplatform.dialects.kit.dialect import Dialect, dialects

PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


class SharedRoute:
    """A path that several dialects have; each request goes to one of them."""

    def __init__(self, owners: list[tuple[Dialect, URLPattern]]) -> None:
        # Who claims is asked before those that take what nobody claims.
        self.owners = sorted(owners, key=lambda owner: owner[0].claims is None)
        self.route = f"{owners[0][0].prefix}{owners[0][1].pattern}"
        self._names = {one.name: PARAMETER.findall(str(own.pattern)) for one, own in owners}

    def owner_of(self, request: HttpRequest, *values: str) -> tuple[Dialect, URLPattern]:
        """Return the dialect whose request it is, and its pattern. values: those in the path."""
        for dialect, own in self.owners:
            if dialect.claims is None or dialect.claims(request, *values):
                return dialect, own
        return self.owners[-1]

    def patterns(self) -> list[URLPattern]:
        """Make the URL patterns of the route, also with a slash where it has no parameters."""

        @csrf_exempt  # each view sees to that itself
        def answer(request: HttpRequest, **given: str) -> HttpResponse:
            dialect, own = self.owner_of(request, *given.values())
            names = self._names[dialect.name]
            return own.callback(request, **dict(zip(names, given.values(), strict=True)))

        has_parameters = PARAMETER.search(self.route) is not None
        spellings = [self.route] if has_parameters else [self.route, f"{self.route}/"]
        return [path(spelling, answer, {}, None) for spelling in spellings]


@cache
def shared_routes() -> tuple[SharedRoute, ...]:
    """List the routes that more than one of the installed dialects has."""
    owners: dict[str, list[tuple[Dialect, URLPattern]]] = {}
    for dialect in dialects():
        for pattern in import_module(dialect.urls).urlpatterns:
            route = PARAMETER.sub("<>", f"{dialect.prefix}{pattern.pattern}")
            owners.setdefault(route, []).append((dialect, pattern))
    return tuple(SharedRoute(those) for those in owners.values() if len(those) > 1)


def own_routes(dialect: Dialect) -> list[URLPattern]:
    """List a dialect's routes as they are mounted, without those that it shares by a claim."""
    shared = {own for route in shared_routes() for one, own in route.owners if one.claims}
    return [own for own in import_module(dialect.urls).urlpatterns if own not in shared]


# Before the dialects' own: of what is shared each has a route too, which its schema tells of.
urlpatterns = [
    *(pattern for route in shared_routes() for pattern in route.patterns()),
    *(path(dialect.prefix, include(own_routes(dialect))) for dialect in dialects()),
    *(path(door, include(urls)) for one in dialects() for door, urls in one.doors.items()),
]


def envelopes(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    """Replace Django's own error pages (an unknown path, a bug) below a dialect's path."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        # What a view of ours refused is in its envelope already.
        if response.status_code < 400 or isinstance(response, Response):
            return response
        dialect = _dialect_of(request)
        return dialect.bare_answer(request, response.status_code) if dialect else response

    return answer


def _dialect_of(request: HttpRequest) -> Dialect | None:
    """Find the dialect in whose envelope to refuse a request that no view answered."""
    asked = f"{request.path_info.removeprefix('/')}"
    for route in shared_routes():
        for pattern in route.patterns():
            if (match := pattern.resolve(asked)) is not None:
                return route.owner_of(request, *match.kwargs.values())[0]
    below: Any = [one for one in dialects() if one.is_below(asked)]
    return next((one for one in below if one.claims is None), next(iter(below), None))
