"""The vendor's pages: by keyset after an object's id, with an exact has_more and no count."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError as FieldError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from apps.errors import Unfit
from apps.keyset import beyond
from apps.text import quoted

Place = tuple[Any, ...]
# Finds the first rows after a place, or the first of all: (place, descending, limit).
Finder = Callable[[Place | None, bool, int], list[Any]]


class Query(serializers.Serializer):
    """The query string of a list. A resource whose lists take more has a subclass."""

    after = serializers.CharField(required=False, allow_blank=True)
    limit = serializers.IntegerField(min_value=1, max_value=100, default=20)
    order = serializers.ChoiceField(["asc", "desc"], default="asc")


class Pages(BasePagination):
    """Pages after the object named by `after`; ascending and descending order are exact mirrors."""

    query: type[Query] = Query
    has_more = False

    def fields(self, query: Mapping[str, Any]) -> tuple[str, ...]:
        """Return fields, unique together, by which rows are ordered."""
        return ("created_at", "id")

    def asked(self, request: Request) -> dict[str, Any]:
        """Return the checked query string. Raises DRF's ValidationError."""
        return _shape(self.query).run_validation(request.query_params)

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        query = self.asked(request)
        fields = self.fields(query)

        def find(place: Place | None, descending: bool, limit: int) -> list[Any]:
            rows = queryset
            if place is not None:
                rows = rows.filter(beyond(fields, place, descending=descending))
            sign = "-" if descending else ""
            return list(rows.order_by(*(f"{sign}{field}" for field in fields))[:limit])

        return self.page_found(find, query, view)

    def page_found(self, find: Finder, query: Mapping[str, Any], view: Any) -> list[Any]:
        """Return the page that `find` finds for a checked query string."""
        after, limit = query.get("after"), query["limit"]
        place = self._place_of(after, self.fields(query), view) if after else None
        # One row more than the page tells whether there is another, without a count.
        return self.cut(find(place, query["order"] == "desc", limit + 1), limit)

    def cut(self, rows: list[Any], limit: int) -> list[Any]:
        """Return the page, and note whether there is more behind it."""
        self.has_more = len(rows) > limit
        return rows[:limit]

    def _place_of(self, after: str, fields: tuple[str, ...], view: Any) -> Place:
        try:
            # Among all rows, deleted ones too: who deletes while paging goes on from what is gone.
            rows = view.all_rows().values_list(*fields)
            places = (rows.filter(condition).first() for condition in view.conditions(after))
            place = next((place for place in places if place is not None), None)
        except FieldError:
            place = None
        if place is None:
            raise self.unfit_place(after, view)
        return place

    @staticmethod
    def unfit_place(after: str, view: Any) -> Unfit:
        return Unfit(f"There is no {view.noun} {quoted(after)} in this list.", path="after")

    def get_paginated_response(self, data: Sequence[Mapping[str, Any]]) -> Response:
        return Response(
            {
                "object": "list",
                "data": data,
                "first_id": data[0]["id"] if data else None,
                "last_id": data[-1]["id"] if data else None,
                "has_more": self.has_more,
            }
        )

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        id_schema = {"type": "string", "nullable": True}
        properties = {
            "object": {"type": "string", "enum": ["list"]},
            "data": schema,
            "first_id": id_schema,
            "last_id": id_schema,
            "has_more": {"type": "boolean"},
        }
        return {"type": "object", "required": [*properties], "properties": properties}

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            {"name": name, "in": "query", "required": False, "schema": _query_schema(field)}
            for name, field in self.query().fields.items()
        ]


def listed(objects: Sequence[Mapping[str, Any]], query: Query, noun: str) -> Response:
    """Answer with a page of a few objects that are all at hand, the oldest first.

    Raises DRF's ValidationError for a query that is none, and Unfit where no object is the one that
    `after` names.
    """
    query.is_valid(raise_exception=True)
    asked, shown = query.validated_data, [*objects]
    if asked["order"] == "desc":
        shown.reverse()
    if after := asked.get("after"):
        places = [one["id"] for one in shown]
        if after not in places:
            raise Unfit(f"There is no {noun} {quoted(after)} in this list.", path="after")
        shown = shown[places.index(after) + 1 :]
    pages = Pages()
    pages.has_more = len(shown) > asked["limit"]
    return pages.get_paginated_response(shown[: asked["limit"]])


@cache
def _shape(query: type[Query]) -> Query:
    """Return one shape for all requests: to make its fields anew takes longer than to use them."""
    return query()


def _query_schema(field: serializers.Field) -> dict[str, Any]:
    if isinstance(field, serializers.IntegerField):
        limits = {"minimum": field.min_value, "maximum": field.max_value}
        return {"type": "integer", "default": field.default, **limits}
    if isinstance(field, serializers.ChoiceField):
        return {"type": "string", "enum": [*field.choices], "default": field.default}
    return {"type": "string"}
