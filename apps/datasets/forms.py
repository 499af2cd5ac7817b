"""Forms by which operators import and edit datasets in the admin."""

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from apps.accounts.models import Account
from apps.datasets.models import NAME_LENGTH, Dataset, TestCase
from apps.datasets.row_readers import STREAMED, stream_format_of
from apps.strict_json import BadJSON, parse_json


class ImportForm(forms.Form):
    account = forms.ModelChoiceField(Account.objects.none())
    name = forms.CharField(
        max_length=NAME_LENGTH, help_text="A dataset of the account; a new one is made."
    )
    file = forms.FileField(help_text="JSONL, a JSON array or CSV.")
    format = forms.ChoiceField(
        choices=[("", "by the file's ending"), *((name, name) for name in STREAMED)], required=False
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

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("file") and not data.get("format"):
            try:
                data["format"] = stream_format_of(data["file"].name)
            except ValueError as error:
                self.add_error("format", str(error))
        return data


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
