"""The vendor's words for the states of a run."""

from apps.evaluations.models import Run

STATUSES: dict[str, str] = {
    Run.State.QUEUED: "waiting",
    Run.State.RUNNING: "running",
    Run.State.COMPLETED: "completed",
    Run.State.FAILED: "failed",
    Run.State.CANCELED: "failed",
}
