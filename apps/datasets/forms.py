"""Forms by which people import and edit datasets, in the admin and on pages."""

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from apps.accounts.models import Account, Actor
from apps.accounts.staff import reason_of
from apps.datasets.file_imports import ImportedFile, SkippedRows, import_file
from apps.datasets.models import NAME_LENGTH, Dataset, TestCase
from apps.datasets.row_readers import FORMATS, ReadingOptions
from apps.datasets.sniffing import DELIMITERS
from apps.datasets.text_encodings import named
from apps.datasets.unpacking import BadFile
from apps.errors import Refusal
from apps.strict_json import BadJSON, parse_json


class FileForm(forms.Form):
    """A file to import, and what is said of it."""

    name = forms.CharField(
        max_length=NAME_LENGTH, help_text="A dataset of the account; a new one is made."
    )
    file = forms.FileField(
        help_text="JSONL, a JSON array or an object that holds one, CSV, Parquet or a workbook "
        "(.xlsx), plain or packed with gzip."
    )
    format = forms.ChoiceField(
        choices=[("", "found out"), *((name, name) for name in FORMATS)], required=False
    )
    encoding = forms.CharField(
        required=False, max_length=60, help_text="Of a text: utf-8, cp1252, utf-16, … or found out."
    )
    delimiter = forms.ChoiceField(
        choices=[("", "found out"), *DELIMITERS.items()],
        required=False,
        help_text="What parts the cells of a CSV file.",
    )
    on_error = forms.ChoiceField(
        choices=[
            ("stop", "import nothing when a row is bad"),
            ("skip", "skip bad rows, and keep a file of them"),
        ],
        required=False,
        label="Bad rows",
    )
    label_field = forms.CharField(
        required=False, help_text="The field with the right answer; every row needs it."
    )
    text_field = forms.CharField(
        required=False,
        help_text="The field that built-in models read; without it every text but the label.",
    )
    flat = forms.BooleanField(
        required=False,
        help_text="Take every row for an item. Otherwise a row with no other keys than item and "
        "perhaps sample, both objects, is a test case with a recorded answer.",
    )

    def clean_encoding(self) -> str:
        given = str(self.cleaned_data["encoding"]).strip()
        if given:
            try:
                named(given)
            except BadFile as error:
                raise ValidationError(f"{error}.") from error
        return given

    def options(self) -> ReadingOptions:
        """Return what a valid form says of the file."""
        given = self.cleaned_data
        return ReadingOptions(given["format"], given["encoding"], given["delimiter"])

    def run(self, actor: Actor, skipped: SkippedRows) -> ImportedFile:
        """Import the file of a valid form. Raises as import_file."""
        given = self.cleaned_data
        return import_file(
            actor,
            into=given["name"],
            file=given["file"].open(),
            filename=given["file"].name,
            options=self.options(),
            skipped=skipped if given["on_error"] == "skip" else None,
            flat=given["flat"],
            label_field=given["label_field"],
            text_field=given["text_field"],
        )

    def refuse(self, error: Exception) -> None:
        """Show a refusal at the field that it speaks of."""
        path = error.problems[0].path if isinstance(error, Refusal) else ()
        field = str(path[0]) if path and path[0] in self.fields else None
        self.add_error(field, reason_of(error))


class ImportForm(FileForm):
    """A file to import into an account that is chosen too."""

    account = forms.ModelChoiceField(Account.objects.none())
    field_order = ("account",)


class DatasetForm(forms.ModelForm):
    class Meta:
        model = Dataset
        fields = ("account", "name", "description", "label_field", "text_field")
        widgets = {"name": forms.TextInput(attrs={"size": 80})}


class CaseForm(forms.ModelForm):
    class Meta:
        model = TestCase
        fields = ("item", "sample")
        widgets = dict.fromkeys(("item", "sample"), forms.Textarea(attrs={"cols": 100, "rows": 20}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("item", "sample"):
            if name in self.fields and self.initial.get(name):
                value = parse_json(self.initial[name])
                self.initial[name] = json.dumps(value, indent=2, ensure_ascii=False)

    def clean_item(self) -> str:
        return _json_object(self.cleaned_data["item"])

    def clean_sample(self) -> str | None:
        text = self.cleaned_data["sample"]
        return _json_object(text) if text and text.strip() else None


def _json_object(text: str) -> str:
    try:
        value = parse_json(text)
    except BadJSON as error:
        raise ValidationError(f"This is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ValidationError("This must be a JSON object.")
    return text
