"""Plain values as Python source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def literal(value: Any) -> str:
    """``value`` as an expression; lists become tuples, since torch wants them, and NaN is ``float("nan")``."""
    match value:
        case float() if not math.isfinite(value):
            return f'float("{value}")'
        case Mapping():
            return "{" + ", ".join(f"{key!r}: {literal(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            inner = ", ".join(map(literal, value))
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        case _:
            return repr(value)


def keywords(arguments: Mapping[str, Any]) -> str:
    """``arguments`` as they stand between the brackets of a call."""
    return ", ".join(f"{name}={literal(value)}" for name, value in arguments.items())
