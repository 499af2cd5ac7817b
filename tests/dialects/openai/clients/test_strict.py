"""The newest client in its strict mode, which refuses every value that does not fit its types."""

import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import httpx
import openai
import pydantic
import pytest

from evalplatform.dialects.openai.urls import urlpatterns
from tests.dialects.openai.clients.waiting import wait_over
from tests.shared_server import Platform

# contract: openai, section 12 and additions, strict: what fits no type of the client's, and stays
EXCEPTIONS = {
    "files: purpose",
    "runs: error",
    "runs: per_model_usage",
    "runs: per_testing_criteria_results",
    "output_items: sample.error",
    "output_items: sample.max_completion_tokens",
    "output_items: sample.seed",
    # It has one type for whoever speaks.
    "messages: role",
    # It decodes only after it has looked.
    "embeddings: embedding",
}
# The client has no method for these; of the two paths that cancel a run it knows one.
WITHOUT_METHOD = {"POST evals/*/runs/*/cancel", "POST evals/*/runs/*"}

MODEL = "echo-model"
SAID = [{"role": "user", "content": "{{ item.q }}"}]
JUDGED = {"type": "label_model", "name": "label", "model": MODEL, "labels": ["good", "bad"]}
BOTH = {"input": "{{ sample.output_text }}", "reference": "{{ item.label }}"}
CRITERIA: list[Any] = [
    {"type": "string_check", "name": "same", **BOTH, "operation": "eq"},
    {
        "type": "text_similarity",
        "name": "near",
        **BOTH,
        "evaluation_metric": "bleu",
        "pass_threshold": 0.5,
    },
    {
        **JUDGED,
        "input": [{"role": "user", "content": '{"steps": [], "result": "good"}'}],
        "passing_labels": ["good"],
    },
    {
        "type": "score_model",
        "name": "score",
        "model": MODEL,
        "input": [{"role": "user", "content": '{"steps": [], "result": 0.7}'}],
    },
    {"type": "python", "name": "program", "source": "def grade(sample, item):\n    return 1.0\n"},
]
CONFIG: Any = {
    "type": "custom",
    "item_schema": {"type": "object", "properties": {"q": {"type": "string"}}},
    "include_sample_schema": True,
}
ROWS = [{"item": {"q": f"a{number}", "label": f"a{number}"}} for number in range(3)]


class Strict:
    """A strict client and a lenient one, the routes that they took, and what did not fit."""

    def __init__(self, platform: Platform) -> None:
        key = platform.open_account("strict", MODEL, "slow:30")
        platform.served.manage(
            *("add_endpoint", "--account", "strict", "--base-url", platform.models.base_url),
            *("--allow-private", "--embedding-model", "vectors"),
        )
        self.taken: set[str] = set()
        self.misfits: set[str] = set()
        where: Any = {"base_url": platform.openai_url, "api_key": key, "max_retries": 0}
        hooks: Any = {"request": [self._note]}
        self.strict, self.lenient = (
            openai.OpenAI(
                **where,
                _strict_response_validation=strict,
                http_client=httpx.Client(event_hooks=hooks),
            )
            for strict in (True, False)
        )

    def _note(self, request: httpx.Request) -> None:
        path = request.url.path.removeprefix("/v1/")
        self.taken.add(f"{request.method} {path}")

    def ask(self, resource: str, call: Callable[[openai.OpenAI], Any]) -> Any:
        """Ask strictly, and once more where that did not fit: what the lenient client read."""
        try:
            return call(self.strict)
        except openai.APIResponseValidationError as refused:
            misfit = cast(pydantic.ValidationError, refused.__cause__)
            for error in misfit.errors():
                # A list says which of its objects; a union, which of its members was tried.
                place = [str(step) for step in error["loc"] if not isinstance(step, int)]
                place = place[1:] if place[:1] == ["data"] else place
                self.misfits.add(f"{resource}: {'.'.join(place)}")
        return call(self.lenient)


@pytest.fixture
def asking(platform: Platform) -> Iterator[Strict]:
    asking = Strict(platform)
    with asking.strict, asking.lenient:
        yield asking


@pytest.mark.once("the client's types are the same")
def test_every_route_fits_the_clients_types_but_for_the_contracts_exceptions(
    asking: Strict,
) -> None:
    ask, lines = asking.ask, b'{"item": {"q": "a1", "label": "a1"}}\n'
    file = ask("files", lambda c: c.files.create(file=("r.jsonl", lines), purpose="evals"))
    ask("files", lambda c: c.files.retrieve(file.id))
    ask("files", lambda c: c.files.list(purpose="evals"))
    ask("files", lambda c: c.files.content(file.id))

    made = ask(
        "evals",
        lambda c: c.evals.create(
            name="strict", data_source_config=CONFIG, testing_criteria=CRITERIA
        ),
    )
    ask("evals", lambda c: c.evals.retrieve(made.id))
    ask("evals", lambda c: c.evals.update(made.id, name="renamed"))
    ask("evals", lambda c: c.evals.list())

    mark = {"strict": "yes"}
    user: Any = [{"role": "user", "content": "hello"}]
    chat = ask(
        "completions",
        lambda c: c.chat.completions.create(model=MODEL, messages=user, store=True, metadata=mark),
    )
    ask("completions", lambda c: list(c.chat.completions.create(
        model=MODEL, messages=user, stream=True)))  # fmt: skip
    ask("completions", lambda c: c.chat.completions.list(metadata=mark))
    ask("completions", lambda c: c.chat.completions.retrieve(chat.id))
    ask("completions", lambda c: c.chat.completions.update(chat.id, metadata=mark))
    ask("messages", lambda c: c.chat.completions.messages.list(chat.id))
    response = ask("responses", lambda c: c.responses.create(model=MODEL, input="hello"))
    ask("responses", lambda c: list(c.responses.create(model=MODEL, input="hi", stream=True)))
    ask("responses", lambda c: c.responses.retrieve(response.id))
    ask("input_items", lambda c: c.responses.input_items.list(response.id))

    template = {"type": "template", "template": SAID}
    asked = {"model": MODEL, "input_messages": template}
    from_file = {"type": "file_id", "id": file.id}
    from_rows = {"type": "file_content", "content": ROWS}
    stored = {"type": "stored_completions", "metadata": mark}
    sources: list[Any] = [
        {"type": "completions", "source": from_rows, **asked},
        {"type": "responses", "source": from_file, **asked},
        {"type": "jsonl", "source": from_file},
        {"type": "completions", "source": stored, **asked},
        {"type": "responses", "source": {"type": "responses", "model": MODEL}, **asked},
    ]
    for source in sources:
        run = ask("runs", lambda c, of=source: c.evals.runs.create(made.id, data_source=of))
        wait_over(asking.lenient, run)
        ask("runs", lambda c, run=run: c.evals.runs.retrieve(run.id, eval_id=made.id))
        items = ask(
            "output_items",
            lambda c, run=run: c.evals.runs.output_items.list(run.id, eval_id=made.id),
        )
        ask(
            "output_items",
            lambda c, run=run, item=items.data[0]: c.evals.runs.output_items.retrieve(
                item.id, eval_id=made.id, run_id=run.id
            ),
        )
    ask("runs", lambda c: c.evals.runs.list(made.id))
    slow = {**sources[0], "model": "slow:30"}
    going = ask("runs", lambda c: c.evals.runs.create(made.id, data_source=slow))
    ask("runs", lambda c: c.evals.runs.cancel(going.id, eval_id=made.id))
    for run in asking.lenient.evals.runs.list(made.id):
        asking.strict.evals.runs.delete(run.id, eval_id=made.id)

    ask("embeddings", lambda c: c.embeddings.create(model="vectors", input=["a", "b"]))
    ask("numbers", lambda c: c.embeddings.create(
        model="vectors", input="a", encoding_format="float"))  # fmt: skip
    ask("models", lambda c: c.models.list())
    ask("models", lambda c: c.models.retrieve(MODEL))
    graders = asking.strict.fine_tuning.alpha.graders
    graders.validate(grader=CRITERIA[0])
    graders.run(grader=CRITERIA[0], model_sample="a", item={"label": "a"})

    with pytest.raises(openai.APIStatusError):
        asking.strict.models.delete(MODEL)
    with pytest.raises(openai.NotFoundError):
        asking.strict.responses.input_tokens.count(model=MODEL, input="hello")
    asking.strict.responses.delete(response.id)
    asking.strict.chat.completions.delete(chat.id)
    asking.strict.files.delete(file.id)
    asking.strict.evals.delete(made.id)

    assert asking.misfits == EXCEPTIONS
    ours = {f"{method} {route}" for method, route in _routes()} - WITHOUT_METHOD
    patterns = {route: re.compile(route.replace("*", "[^/]+")) for route in ours}
    assert {
        route
        for route, pattern in patterns.items()
        if not any(pattern.fullmatch(path) for path in asking.taken)
    } == set()


def _routes() -> Iterator[tuple[str, str]]:
    """Each route of ours as the client may take it, "*" for an id, with each of its methods."""
    for pattern in urlpatterns:
        route = re.sub(r"<\w+:\w+>", "*", str(pattern.pattern))
        # Django adds HEAD to the actions of a route that has been asked for.
        for method in pattern.callback.actions.keys() - {"head"}:
            yield method.upper(), route
