"""Globs over case ids and targets, in which ``[`` and ``]`` stand for themselves."""

from __future__ import annotations

import re
from functools import lru_cache


def matches(pattern: str, text: str) -> bool:
    """True where ``pattern`` covers all of ``text``: ``*`` is any run of characters, ``?`` any one character."""
    return _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Runs of stars are one star: apart they would only make the search slow.
    parts = re.split(r"(\*+|\?)", pattern)
    return re.compile(
        "".join(".*" if part[:1] == "*" else "." if part == "?" else re.escape(part) for part in parts), re.DOTALL
    )
