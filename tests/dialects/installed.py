"""Leaves out tests that speak a dialect which the settings do not list."""

import pytest

from evalplatform.dialects.kit.dialect import dialects


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip a test unless all dialects of these names are installed."""
    missing = sorted(set(names) - {dialect.name for dialect in dialects()})
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
