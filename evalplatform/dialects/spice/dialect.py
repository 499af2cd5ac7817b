"""Describe Spice's eval API to the rest of the server."""

from django.http import HttpRequest

from evalplatform.dialects.kit.dialect import Dialect
from evalplatform.dialects.spice.viewset import bare_answer

OTHERS_ID = "eval_"  # no eval's name may have the shape of an id that begins so


def claims(request: HttpRequest, name: str = "") -> bool:
    """Tell whether a request for a shared route is Spice's.

    Source: docs/contracts/spice.md, section 3.
    """
    if "HTTP_X_API_KEY" in request.META and "HTTP_AUTHORIZATION" not in request.META:
        return True
    return request.method == "POST" and name != "" and not name.startswith(OTHERS_ID)


DIALECT = Dialect(
    name="spice",
    title="Spice eval API",
    prefix="v1/",
    urls="evalplatform.dialects.spice.urls",
    bare_answer=bare_answer,
    claims=claims,
    admin_urls="evalplatform.dialects.spice.admin_urls",
)
