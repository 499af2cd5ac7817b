"""The tables of inference: model servers, their models, their slots, and the answers kept."""

from apps.inference.models.completions import CompletionTag, StoredCompletion
from apps.inference.models.endpoints import EndpointSlot, ModelEndpoint, ServedModel

__all__ = [
    "CompletionTag",
    "EndpointSlot",
    "ModelEndpoint",
    "ServedModel",
    "StoredCompletion",
]
