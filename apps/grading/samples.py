"""Hold one item and its answer, as graders see them."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from apps.clients.tidying import text_of
from apps.grading.templating import compile_template
from apps.strict_json import BadJSON, parse_json

T = TypeVar("T")


class Sample:
    """One item and its answer. Graders share it, so that what two of them need is computed once.

    item: the row of the dataset. sample: the answer, None for a run that asks no model.
    """

    __slots__ = ("_made", "_rendered", "_scope", "item", "sample")

    def __init__(self, item: dict[str, Any], sample: dict[str, Any] | None) -> None:
        self.item = item
        self.sample = sample
        self._scope = {"item": item} if sample is None else {"item": item, "sample": sample}
        self._rendered: dict[str, str] = {}
        self._made: dict[Hashable, Any] = {}

    @property
    def scope(self) -> dict[str, Any]:
        """Return the names that templates can use: `item`, and `sample` where there is one."""
        return self._scope

    def render(self, template: str) -> str:
        """Fill the template from this sample. Raises MissingVariable and RenderedTooLong."""
        text = self._rendered.get(template)
        if text is None:
            text = self._rendered[template] = compile_template(template).render(self._scope)
        return text

    def value(self, template: str) -> Any:
        """Return the value of a template that is one placeholder, else render it.

        Raises as `render` does.
        """
        return compile_template(template).value(self._scope)

    def memo(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned when this key was first asked for; it must not be None."""
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = make()
        return made


def complete_sample(sample: dict[str, Any], *, wants_json: bool = False) -> dict[str, Any]:
    """Return the sample with the missing `output_text` and `output_tools` of its first choice.

    wants_json: adds `output_json` too, where the text is a JSON object.
    Source: docs/contracts/openai.md, section 10.
    """
    if "output_text" in sample and not wants_json:
        return sample
    message = _first_message(sample)
    if message is None:
        return sample
    done = {**sample}
    done.setdefault("output_text", text_of(message.get("content")))
    if tools := message.get("tool_calls"):
        done.setdefault("output_tools", tools)
    if wants_json and "output_json" not in done:
        try:
            value = parse_json(done["output_text"])
        except (BadJSON, TypeError):
            value = None
        if isinstance(value, dict):
            done["output_json"] = value
    return done


def _first_message(sample: Mapping[str, Any]) -> Mapping[str, Any] | None:
    choices = sample.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    message = choices[0].get("message")
    return message if isinstance(message, dict) else None
