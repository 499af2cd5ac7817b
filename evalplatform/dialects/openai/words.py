"""The vendor's words for our states, in both directions, and its other fixed words."""

from apps.evaluations.models import Result, Run

# Of the dialect, as it is kept with what came through it.
NAME = "openai"

RUN_STATUS: dict[str, str] = {
    Run.State.QUEUED: "queued",
    Run.State.RUNNING: "in_progress",
    Run.State.COMPLETED: "completed",
    Run.State.CANCELED: "canceled",
    Run.State.FAILED: "failed",
}
RUN_STATE = {status: state for state, status in RUN_STATUS.items()}

RUN_EVENT: dict[str, str] = {
    Run.State.COMPLETED: "eval.run.succeeded",
    Run.State.FAILED: "eval.run.failed",
    Run.State.CANCELED: "eval.run.canceled",
}

ITEM_STATUS: dict[str, str] = {
    Result.State.PASSED: "pass",
    Result.State.FAILED: "fail",
    Result.State.ERRORED: "error",
    # Only where people judge, who have not yet.
    Result.State.UNJUDGED: "fail",
}
# contract: openai section 3: the filter knows these two alone
ITEM_STATE: dict[str, str] = {"fail": Result.State.FAILED, "pass": Result.State.PASSED}

ROLES = ("user", "assistant", "system", "developer")
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
REASONING_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
