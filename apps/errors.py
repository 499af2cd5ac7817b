"""The few words that Django lacks for what services raise; a face gives each its own status."""

from django.core.exceptions import ValidationError


class Invalid(ValidationError):
    """One value that breaks a rule: where it stands, what is wrong, and a machine's word for it.

    path: dotted and indexed as the caller wrote it ("testing_criteria[0].operation"), empty for
    the whole body. code: invalid_value, invalid_type, missing_required_parameter, ….
    """

    def __init__(self, message: str, *, path: str = "", code: str = "invalid_value") -> None:
        super().__init__(message, code=code)
        self.path = path


class StateError(Exception):
    """The thing asked for is not possible in the state that the object is in."""


class LimitError(Exception):
    """A bound on size or number is reached; the message names the bound."""
