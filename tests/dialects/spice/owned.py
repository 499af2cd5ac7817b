"""Gives ids of an account's rows as Spice's routes take them, for tests/test_tenancy.py."""

from collections.abc import Mapping
from typing import Any


def parameters(rows: Mapping[str, Any]) -> dict[str, str]:
    """Return the routes' parameters for an owner's rows, which `rows` has by noun."""
    return {"name": rows["evaluation"].call_name}
