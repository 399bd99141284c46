"""The nearest right word for a wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The word of ``known`` that ``word`` is most likely to mean; None where none is near."""
    by_lower = {each.lower(): each for each in sorted(known, reverse=True)}
    found = get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def suggestion(word: str, known: Iterable[str], otherwise: str) -> str:
    """``did you mean X?``, or ``otherwise`` where nothing is near."""
    names = list(known)
    near = nearest(word, names)
    return otherwise if near is None else f"did you mean {near}?"
