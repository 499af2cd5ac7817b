"""The admin of model servers and of stored completions; importing it registers them."""

from apps.inference.admin import completions, endpoints

__all__ = ["completions", "endpoints"]
