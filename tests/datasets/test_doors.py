"""A file is read alike by every door, whatever its name says and however it is written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from apps.accounts.models import Actor
from apps.datasets.models import Dataset
from apps.datasets.reading import find_version, read_cases
from tests.dialects.installed import needs
from tests.factories import make_actor, make_user

pytestmark = pytest.mark.django_db

ROWS = [{"input": "é", "n": 1}, {"input": "[", "n": [{"a": None}]}]
LINES = "\n".join(json.dumps(row) for row in ROWS)


def by_command(actor: Actor, path: Path) -> str:
    try:
        call_command("import_dataset", str(path), "--account", actor.account.name, "--name", "t")
    except CommandError as error:
        return str(error)
    return ""


def by_spicepod(actor: Actor, path: Path) -> str:
    pod = path.with_name("pod.yaml")
    sections = {
        "datasets": [{"name": "t", "from": f"file:{path.name}"}],
        "evals": [{"name": "uses it", "dataset": "t", "scorers": []}],
    }
    pod.write_text(json.dumps(sections))
    try:
        call_command("load_spicepod", str(pod), "--account", actor.account.name)
    except CommandError as error:
        return str(error)
    return ""


def by_admin(actor: Actor, path: Path) -> str:
    client = Client()
    client.force_login(actor.user)
    file = SimpleUploadedFile(path.name, path.read_bytes())
    given = {"account": actor.account.pk, "name": "t", "file": file}
    answer = client.post(reverse("admin:datasets_dataset_import"), given)
    return "" if answer.status_code == 302 else answer.content.decode()


def by_page(actor: Actor, path: Path) -> str:
    client = Client()
    client.force_login(actor.user)
    file = SimpleUploadedFile(path.name, path.read_bytes())
    answer = client.post(reverse("web:import_dataset"), {"name": "t", "file": file})
    return "" if answer.status_code == 302 else answer.content.decode()


doors = pytest.mark.parametrize(
    "enter", [by_command, pytest.param(by_spicepod, marks=needs("spice")), by_admin, by_page]
)


def enter_with(enter: Callable[[Actor, Path], str], folder: Path, text: str) -> tuple[Actor, str]:
    actor = make_actor(user=make_user(is_staff=True))
    path = folder / "rows.json"
    path.write_text(text, encoding="utf-8")
    return actor, enter(actor, path)


@doors
@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        json.dumps({"data": ROWS}),
        LINES,
        f"{LINES}\n",
        f"\n\n{LINES}",
    ],
    ids=["array", "indented array", "wrapped", "lines", "ended lines", "lines after blank ones"],
)
def test_arrays_and_lines_are_read_alike_by(enter, text, tmp_path):
    actor, refusal = enter_with(enter, tmp_path, text)
    assert refusal == ""
    assert [item for item, _ in read_cases(find_version(actor.account.pk, "t"))] == ROWS


@doors
@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_tables_are_read_alike_by(enter, delimiter, tmp_path):
    text = delimiter.join(("input", "n")) + "\n" + delimiter.join(("é", "1")) + "\n"
    actor = make_actor(user=make_user(is_staff=True))
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="latin-1")
    assert enter(actor, path) == ""
    rows = [item for item, _ in read_cases(find_version(actor.account.pk, "t"))]
    assert rows == [{"input": "é", "n": "1"}]


@doors
@pytest.mark.parametrize("text", ['[{"input": 1}', '[{"input": 1}, 2]', '{"input": 1}\n2'])
def test_a_broken_file_leaves_nothing_behind_after(enter, text, tmp_path, capsys):
    _, refusal = enter_with(enter, tmp_path, text)
    assert refusal
    assert not Dataset.objects.present().exists()
