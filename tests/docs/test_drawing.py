"""The drawing of the architecture shows the imports and the import law as they are."""

import re
from xml.etree import ElementTree

import pytest

from docs import draw_architecture as drawing

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture):
    return {element.text for element in ElementTree.fromstring(picture).iter(f"{SVG}text")}


@pytest.fixture(scope="module")
def drawn():
    return drawing.draw()


def test_the_drawing_kept_is_what_the_code_makes_now(drawn):
    kept = drawing.DRAWING.read_text(encoding="utf-8")
    assert kept == drawn, "remake it: .venv/bin/python docs/draw_architecture.py"


def test_every_package_that_imports_another_is_drawn(drawn):
    shown = texts(drawn)
    assert {"management", "web", "dialects.kit", "evaluations", "grading", "engine"} <= shown


def test_an_import_that_is_new_changes_the_drawing(drawn, monkeypatch):
    between = drawing.imports_between
    added = ("evalplatform.wsgi", "apps.sandbox")

    def with_it(graph, boxes):
        return between(graph, boxes) | ({added} if added[0] in boxes else set())

    monkeypatch.setattr(drawing, "imports_between", with_it)
    assert drawing.draw() != drawn


def test_only_arrows_that_follow_from_others_are_left_out():
    arrows = {("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("a", "e")}
    assert drawing.without_implied(arrows) == arrows - {("a", "d")}


def test_modules_of_one_layer_that_import_each_other_stand_one_below_the_other():
    assert drawing.split_rows([["b", "a"], ["c"]], {("a", "b"), ("b", "c")}) == [
        ["a"],
        ["b"],
        ["c"],
    ]


def test_it_reads_in_light_and_dark_without_a_font_from_elsewhere(drawn):
    assert "prefers-color-scheme: dark" in drawn
    assert not re.findall(r"@import|url\((?!#)|href", drawn)
