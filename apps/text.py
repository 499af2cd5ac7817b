"""Show values in messages: shortened, quoted, on one line."""

import json

QUOTED_LENGTH = 100
SHOWN_LENGTH = 200


def quoted(value: object) -> str:
    """Quote a value as its sender wrote it, in JSON, cut to a length that fits a sentence."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= QUOTED_LENGTH else f"{text[:QUOTED_LENGTH]}…"


def shown(text: str) -> str:
    """Quote a text; of a long one its beginning, since the result keeps the whole."""
    return repr(text) if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]!r}…"
