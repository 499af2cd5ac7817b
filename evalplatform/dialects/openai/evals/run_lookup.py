"""Find the evaluation and the run that a path names, in one statement."""

from rest_framework.exceptions import ValidationError as FieldError

from apps.evaluations.models import Evaluation, Run
from apps.evaluations.reports import find_evaluation, find_run
from evalplatform.dialects.openai.ids import EVAL_ID, RUN_ID
from evalplatform.dialects.openai.viewset import OpenAIViewSet


def evaluation_in_path(view: OpenAIViewSet) -> Evaluation:
    """Return the evaluation at `eval_id`; see find_evaluation for what of it is loaded.

    Raises NotFound where the account has no such eval.
    """
    name = view.kwargs["eval_id"]
    try:
        found = find_evaluation(view.actor, EVAL_ID.fields(name))
    except FieldError:
        found = None
    if found is None:
        raise view.missing("eval", name)
    return found


def run_in_path(view: OpenAIViewSet) -> Run:
    """Return the run at `eval_id` and `run_id`; see find_run for what of it is loaded.

    Raises NotFound where the account has no such run, or has it in another eval.
    """
    eval_name, run_name = view.kwargs["eval_id"], view.kwargs["run_id"]
    try:
        EVAL_ID.fields(eval_name)
    except FieldError:
        raise view.missing("eval", eval_name) from None
    try:
        run = find_run(view.actor, RUN_ID.fields(run_name))
    except FieldError:
        run = None
    if run is None or not EVAL_ID.names(eval_name, run.evaluation):
        raise view.missing("run", run_name)
    return run
