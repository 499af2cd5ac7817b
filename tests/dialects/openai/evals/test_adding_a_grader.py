"""The fields that the page on adding a grader gives its example in requests."""

import re
from pathlib import Path

from evalplatform.dialects.openai.evals import criteria

PAGE = (Path(__file__).parents[4] / "docs" / "adding-a-grader.md").read_text()


def test_the_shape_of_the_page_takes_the_settings_of_its_grader():
    [shape] = re.findall(r"  ```text\n(.*?)  ```", PAGE, re.DOTALL)
    namespace = dict(vars(criteria))
    exec("if True:\n" + shape, namespace)
    sent = {"type": "word_limit", "name": "short", "most": 3, "input": "{{ item.text }}"}
    taken = namespace["WordLimitGrader"](data=sent)
    assert taken.is_valid(), taken.errors
    assert taken.validated_data == sent
    refused = namespace["WordLimitGrader"](data={**sent, "most": -1})
    assert not refused.is_valid()
    assert set(refused.errors) == {"most"}


def test_the_tables_that_the_page_names_are_there():
    assert {"GRADERS", "APPEARANCES"} <= set(re.findall(r"`([A-Z]+)`", PAGE))
    assert criteria.GRADERS.keys() >= criteria.APPEARANCES.keys()
