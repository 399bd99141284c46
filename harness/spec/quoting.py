"""The nearest right word for a wrong one, and lists of words that fit into a message.

Both stay quick however many words there are: a file may hold tens of thousands, and as many mistakes.

Any value on one short line, without ambiguity: for case ids and for messages.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import blake2b
from heapq import nlargest
from itertools import islice
from typing import Any

LONGEST_WORD = 200
MOST_COMPARED = 100_000
"""Words that wrong ones are compared with while one set of files is read; after that, no more suggestions are made."""
MOST_ALIKE = 100
MOST_REMEMBERED = 400
MOST_LISTED = 40


@dataclass(slots=True)
class _Search:
    """How many comparisons are left, and what was found for which word among which others."""

    left: int = MOST_COMPARED
    found: dict[tuple[str, ...], list[str]] = field(default_factory=dict)


_SEARCH: ContextVar[_Search | None] = ContextVar("search", default=None)


@contextmanager
def few_comparisons() -> Iterator[None]:
    """Everything within makes about :data:`MOST_COMPARED` comparisons at most, also where it is nested."""
    if _SEARCH.get() is not None:
        yield
        return
    before = _SEARCH.set(_Search())
    try:
        yield
    finally:
        _SEARCH.reset(before)


def nearest(word: str, known: Collection[str]) -> str | None:
    """The word of ``known`` that ``word`` is most likely to mean; None where none is near."""
    search = _SEARCH.get() or _Search()
    if len(word) > LONGEST_WORD:
        return None
    key = (word, *known) if len(known) <= MOST_REMEMBERED else ()
    if not key or key not in search.found:
        if search.left < 0:
            return None
        search.left -= 10 + len(known) + 2 * min(len(known), MOST_ALIKE)
        search.found[key] = _near(word.lower(), known)
    return next(iter(search.found[key]), None)


def _near(word: str, known: Collection[str]) -> list[str]:
    """The nearest as :mod:`difflib` measures it, which takes long for each: of many, the most alike are measured."""
    known = [each for each in known if len(each) <= 2 * LONGEST_WORD]
    if len(known) > MOST_ALIKE:
        pairs = _pairs(word)
        alike = {each: len(pairs & _pairs(each.lower())) / (len(word) + len(each) + 1) for each in known}
        known = nlargest(MOST_ALIKE, alike, key=alike.__getitem__)
    by_lower = {each.lower(): each for each in sorted(known, reverse=True)}
    return [by_lower[found] for found in get_close_matches(word, list(by_lower), n=1)]


def _pairs(word: str) -> set[tuple[str, str]]:
    """Neighbours in the word, its beginning and end among them."""
    return {*zip(f" {word}", f"{word} ", strict=True)}


def suggestion(word: str, known: Iterable[str], otherwise: str) -> str:
    """``did you mean X?``, or ``otherwise`` where nothing is near."""
    near = nearest(word, known if isinstance(known, Collection) else list(known))
    return otherwise if near is None else f"did you mean {near}?"


def listed_names(names: Iterable[str]) -> str:
    """The names, as many of them as fit into a message."""
    shown = list(islice(names, MOST_LISTED + 1))
    return ", ".join([*shown[:MOST_LISTED], "..."] if len(shown) > MOST_LISTED else shown) or "none"


WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
RESERVED = frozenset({"null", "true", "false", "nan", "inf"})
LONGEST = 64


def compact(value: Any) -> str:
    """``value`` as YAML in flow style without spaces: ``[2,3]``, ``{full:1.5}``, ``true``, ``.nan``, ``word``, ``"2"``.

    Two values of different type or content never look alike.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float() if not math.isfinite(value):
            return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
        case int() | float():
            return repr(value)
        case Mapping():
            return "{" + ",".join(f"{compact(key)}:{compact(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(compact, value)) + "]"
        case _:
            word = str(value)
            bare = WORD.fullmatch(word) and word.lower() not in RESERVED
            return word if bare else json.dumps(word, ensure_ascii=not word.isprintable())


def label(value: Any) -> str:
    """``compact`` for an id: what is longer than 64 characters becomes ``~`` and eight digits of its hash."""
    text = compact(value)
    return text if len(text) <= LONGEST else "~" + blake2b(text.encode(), digest_size=4).hexdigest()


def shown(value: Any) -> str:
    """``compact`` for a message, cut where it is long."""
    text = compact(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
