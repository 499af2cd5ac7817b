"""Presets: the system prompt and default parameters that a model's name brings along."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Preset:
    """The additions to every chat request to a model that was declared under a name.

    params: request fields, where a request does not set them itself.
    """

    system_prompt: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, address: Mapping[str, Any]) -> Self:
        """The preset that an address brings; see services.endpoints.find_model."""
        return cls(**address.get("preset", {}))

    def apply(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if not self.system_prompt:
            return {**self.params, **request}
        prompt = {"role": "system", "content": self.system_prompt}
        return {**self.params, **request, "messages": [prompt, *request["messages"]]}
