"""Describe OpenAI's Evals API, and the APIs around it, to the rest of the server."""

from django.db.models import Q
from rest_framework.exceptions import ValidationError as FieldError

from evalplatform.dialects.kit.dialect import Dialect, RunExport
from evalplatform.dialects.openai.envelope import bare_answer
from evalplatform.dialects.openai.history.saved_folder import FILES, write_folder
from evalplatform.dialects.openai.ids import RUN_ID
from evalplatform.dialects.openai.webhooks import event_shown
from evalplatform.dialects.openai.words import NAME, RUN_EVENT


def _run_conditions(name: str) -> list[Q]:
    try:
        return RUN_ID.conditions(name)
    except FieldError:
        return []


DIALECT = Dialect(
    name=NAME,
    title="OpenAI Evals API",
    prefix="v1/",
    urls="evalplatform.dialects.openai.urls",
    # contract: openai, additions, doors
    doors={"openai/": "evalplatform.dialects.openai.azure_urls"},
    bare_answer=bare_answer,
    webhook_events=RUN_EVENT,
    webhook_body=event_shown,
    run_conditions=_run_conditions,
    run_id=RUN_ID.of,
    run_exports={
        "folder": RunExport(
            help="the eval, the run and its output items as the OpenAI API returns them, and can "
            "be imported by import_openai_export",
            write=write_folder,
            files=frozenset(FILES),
        )
    },
)
