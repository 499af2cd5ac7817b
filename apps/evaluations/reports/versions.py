"""Read what a result was before it was changed."""

from apps.evaluations.models import Result, ResultVersion


def read_versions(result: Result) -> list[Result]:
    """Return every version of a result under its one id, the oldest first, itself the last."""
    earlier = ResultVersion.objects.filter(result=result.pk).order_by("id")
    return [*(version.read() for version in earlier), result]
