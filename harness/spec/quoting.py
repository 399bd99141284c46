"""Values, names and suggestions as they appear in case ids and messages: short, on one line, and unambiguous.

Suggestions stay fast however many names there are: a file may hold tens of thousands, and as many mistakes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches
from hashlib import blake2b
from heapq import nlargest
from itertools import islice
from typing import Any

BARE_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
RESERVED_WORDS = frozenset({"null", "true", "false", "nan", "inf"})
MAX_VALUE_LENGTH = 64
MAX_LISTED = 40
MAX_WORD_LENGTH = 200
MAX_COMPARISONS = 100_000
"""Comparisons with wrong names while one set of files is read; after that, no more suggestions are made."""
MAX_CANDIDATES = 100
"""Names that :mod:`difflib` compares with one wrong name."""
NEAR = 0.75
"""The share of common characters from which a name is suggested for a wrong one."""
MAX_CACHED_NAMES = 400
"""Suggestions are cached for lists of at most this many names."""


def flow_yaml(value: Any) -> str:
    """``value`` as YAML in flow style without spaces: ``[2,3]``, ``{full:1.5}``, ``true``, ``.nan``, ``word``, ``"2"``.

    Two values of different type or content never give the same text.
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
            return "{" + ",".join(f"{flow_yaml(key)}:{flow_yaml(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(flow_yaml, value)) + "]"
        case _:
            word = str(value)
            is_bare = BARE_WORD.fullmatch(word) and word.lower() not in RESERVED_WORDS
            return word if is_bare else json.dumps(word, ensure_ascii=not word.isprintable())


def id_label(value: Any) -> str:
    """:func:`flow_yaml` for an id: a text longer than 64 characters becomes ``~`` and eight digits of its hash."""
    text = flow_yaml(value)
    return text if len(text) <= MAX_VALUE_LENGTH else "~" + blake2b(text.encode(), digest_size=4).hexdigest()


def format_value(value: Any) -> str:
    """:func:`flow_yaml` for a message, cut at 64 characters."""
    text = flow_yaml(value)
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 3] + "..."


def join_names(names: Iterable[str]) -> str:
    """The names, separated by commas; the first 40 of them, then ``...``."""
    first = list(islice(names, MAX_LISTED + 1))
    return ", ".join([*first[:MAX_LISTED], "..."] if len(first) > MAX_LISTED else first) or "none"


def suggestion(word: str, names: Iterable[str], otherwise: str) -> str:
    """``did you mean X?``, or ``otherwise`` if no name is close to ``word``."""
    closest = closest_name(word, names if isinstance(names, Collection) else list(names))
    return otherwise if closest is None else f"did you mean {closest}?"


@dataclass(slots=True)
class _Budget:
    """The comparisons that are left, and the close names that were found for a word among some names."""

    left: int = MAX_COMPARISONS
    found: dict[tuple[str, ...], list[str]] = field(default_factory=dict)


_BUDGET: ContextVar[_Budget | None] = ContextVar("budget", default=None)


@contextmanager
def limited_comparisons() -> Iterator[None]:
    """A context that makes at most about :data:`MAX_COMPARISONS` comparisons; a nested one shares the limit."""
    if _BUDGET.get() is not None:
        yield
        return
    token = _BUDGET.set(_Budget())
    try:
        yield
    finally:
        _BUDGET.reset(token)


def closest_name(word: str, names: Collection[str]) -> str | None:
    """The one of ``names`` that ``word`` most probably means; None if none is close."""
    budget = _BUDGET.get() or _Budget()
    if len(word) > MAX_WORD_LENGTH:
        return None
    key = (word, *names) if len(names) <= MAX_CACHED_NAMES else ()
    if not key or key not in budget.found:
        if budget.left < 0:
            return None
        budget.left -= 10 + len(names) + 2 * min(len(names), MAX_CANDIDATES)
        budget.found[key] = _close_names(word.lower(), names)
    return next(iter(budget.found[key]), None)


def _close_names(word: str, names: Collection[str]) -> list[str]:
    """The closest name by :mod:`difflib`, which is slow: of many names, only those with the most common pairs."""
    names = [name for name in names if len(name) <= 2 * MAX_WORD_LENGTH]
    if len(names) > MAX_CANDIDATES:
        pairs = _pairs(word)
        similarity = {name: len(pairs & _pairs(name.lower())) / (len(word) + len(name) + 1) for name in names}
        names = nlargest(MAX_CANDIDATES, similarity, key=similarity.__getitem__)
    by_lower = {name.lower(): name for name in sorted(names, reverse=True)}
    if "/" not in word:  # the last part of an id may stand for all of it
        by_lower = {name.rpartition("/")[2]: by_lower[name] for name in by_lower} | by_lower
    matches = get_close_matches(word, list(by_lower), n=3)
    return [by_lower[match] for match in matches if _is_near(word, match)]


def _is_near(word: str, name: str) -> bool:
    """True if ``word`` may be ``name`` mistyped: three quarters are common, or a single key was struck wrongly.

    :mod:`difflib` also returns names with little in common: half of the letters of a short word, or another version.
    """
    if SequenceMatcher(None, word, name).ratio() >= NEAR:
        return True
    at = next((at for at, (one, other) in enumerate(zip(word, name, strict=False)) if one != other), len(word))
    rest, right = word[at:], name[at:]
    return len(word) > 1 and (
        right in {rest[1:], rest[1:2] + rest[:1] + rest[2:]}
        or right[1:] in {rest, rest[1:]}  # too many, swapped; too few, wrong
    )


def _pairs(word: str) -> set[tuple[str, str]]:
    """The pairs of neighbouring characters in the word, its beginning and end included."""
    return {*zip(f" {word}", f"{word} ", strict=True)}


def count_of(number: int, noun: str) -> str:
    """A number with its noun, such as ``1 check`` or ``1,200 checks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
