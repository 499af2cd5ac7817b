"""Hold one item and its answer, as graders see them."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from apps.clients.tidying import text_of
from apps.grading.templating import compile_template
from apps.strict_json import BadJSON, parse_json

T = TypeVar("T")

MADE_AGAIN = ("output_text", "output_tools")


class _Unanswered(dict[str, Any]):
    """The answer of a row that has none: whatever else is asked of it is null."""

    def __missing__(self, key: str) -> None:
        return None


# contract: openai section 10: what graders see of an answer always has these
NOTHING_SAID: dict[str, Any] = {
    "choices": None,
    "output_text": "",
    "output_json": None,
    "output_tools": [],
    "output_audio": None,
}


class Sample:
    """One item and its answer. Graders share it, so that what two of them need is computed once.

    item: the row of the dataset. sample: the answer as graders see it, with the keys of
    NOTHING_SAID at least; made of None for a row without an answer. explains: whether marks are to
    have evidence; where nobody keeps it, a grader need not write it.
    """

    __slots__ = ("_made", "_rendered", "explains", "item", "sample", "scope")

    def __init__(
        self, item: dict[str, Any], sample: dict[str, Any] | None, *, explains: bool = True
    ) -> None:
        self.item = item
        self.explains = explains
        self.sample = _Unanswered(NOTHING_SAID) if sample is None else _as_seen(sample)
        # The names that templates can use. No text can be read of what is no answer at all.
        is_answer = sample is None or "output_text" in sample or _first_message(sample) is not None
        named = self.sample if is_answer else _without_text(self.sample)
        self.scope = {"item": item, "sample": named}
        self._rendered: dict[str, str] = {}
        self._made: dict[Hashable, Any] = {}

    def render(self, template: str) -> str:
        """Fill the template from this sample. Raises MissingVariable and RenderedTooLong."""
        text = self._rendered.get(template)
        if text is None:
            text = self._rendered[template] = compile_template(template).render(self.scope)
        return text

    def value(self, template: str) -> Any:
        """Return the value of a template that is one placeholder, else render it.

        Raises as `render` does.
        """
        return compile_template(template).value(self.scope)

    def memo(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned when this key was first asked for; it must not be None."""
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = make()
        return made


def _as_seen(sample: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with the keys that graders rely on."""
    seen = {**NOTHING_SAID, **sample}
    if seen["output_text"] is None:
        seen["output_text"] = ""
    if not seen["output_tools"] or not seen["output_audio"]:
        message = _first_message(sample) or {}
        seen["output_tools"] = seen["output_tools"] or message.get("tool_calls") or []
        seen["output_audio"] = seen["output_audio"] or _audio_in(message)
    return seen


def _without_text(sample: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sample.items() if name != "output_text"}


def complete_sample(sample: dict[str, Any], *, wants_json: bool = False) -> dict[str, Any]:
    """Return the sample with the missing `output_text` and `output_tools` of its first choice.

    wants_json: adds `output_json` too, where the text is a JSON object.
    Source: docs/contracts/openai.md, section 10.
    """
    if sample.get("output_text") is not None and not wants_json:
        return sample
    message = _first_message(sample)
    if message is None:
        return sample
    done = {**sample}
    if done.get("output_text") is None:
        done["output_text"] = text_of(message.get("content"))
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


def shortened_sample(sample: dict[str, Any]) -> dict[str, Any]:
    """Return the sample without what `complete_sample` adds again, so that a text is stored once.

    Whole where the completed one would not be the same, its order included, and where it has
    `output_json`, of which the rest does not tell that it is wanted.
    """
    if "output_json" in sample:
        return sample
    short = {name: value for name, value in sample.items() if name not in MADE_AGAIN}
    done = complete_sample(short)
    return short if list(done.items()) == list(sample.items()) else sample


def _audio_in(message: Mapping[str, Any]) -> dict[str, Any] | None:
    audio = message.get("audio")
    if not isinstance(audio, dict):
        return None
    return {name: audio.get(name) for name in ("data", "transcript")}


def _first_message(sample: Mapping[str, Any]) -> Mapping[str, Any] | None:
    choices = sample.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    message = choices[0].get("message")
    return message if isinstance(message, dict) else None
