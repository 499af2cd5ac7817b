"""People's answers about a result change nothing of what this dialect shows and exports."""

import pytest

from apps.evaluations.models import Result
from evalplatform.dialects.openai.evals.output_items import items_shown
from evalplatform.dialects.openai.history.saved_folder import FILES, write_folder
from tests.factories import make_actor
from tests.web.worked import contradict, make_run


@pytest.mark.django_db
def test_a_persons_answers_change_no_output_item_and_no_export(tmp_path):
    run = make_run(make_actor(), ("pf", "fp", "pe", "ss"))
    results = list(Result.objects.filter(run=run).in_order())
    shown, files = [], []
    for name in ("before", "after"):
        folder = tmp_path / name
        folder.mkdir()
        write_folder(run, folder)
        shown.append(items_shown(run, results))
        files.append([(folder / one).read_bytes() for one in FILES if one != "manifest.json"])
        if name == "before":
            contradict(run)
    assert shown[0] == shown[1]
    assert files[0] == files[1]
