"""Globs over case ids and targets, in which ``[`` and ``]`` are literal characters.

Matching takes at most the length of the pattern times the length of the text: each piece between two stars is searched
for once, from where the previous piece ended, and there is no backtracking.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate


def matches(pattern: str, text: str) -> bool:
    """True if ``pattern`` matches all of ``text``: ``*`` is any run of characters, ``?`` any one character."""
    first, *others = _pieces(pattern)
    if not others:
        return len(text) == first.length and first.matches_at(text, 0)
    *middle, last = others
    begin, end = first.length, len(text) - last.length
    if begin > end or not first.matches_at(text, 0) or not last.matches_at(text, end):
        return False
    for piece in middle:
        # The leftmost position leaves the most text for the pieces that follow, so no other position need be tried.
        position = piece.find(text, begin, end)
        if position < 0:
            return False
        begin = position + piece.length
    return True


class _Piece:
    """The part of a pattern between two stars, in which ``?`` matches any one character."""

    def __init__(self, text: str) -> None:
        self.text, self.length = text, len(text)
        # A regular expression without repetition never backtracks.
        expression = "".join("." if each == "?" else re.escape(each) for each in text)
        self.expression = re.compile(expression, re.DOTALL) if "?" in text else None

    def matches_at(self, text: str, position: int) -> bool:
        if self.expression is None:
            return text.startswith(self.text, position)
        return self.expression.match(text, position) is not None

    def find(self, text: str, begin: int, end: int) -> int:
        """The first position from ``begin`` at which the piece fits before ``end``; -1 if there is none."""
        if self.expression is None:
            return text.find(self.text, begin, end)
        match = self.expression.search(text, begin, end)
        return -1 if match is None else match.start()


@lru_cache(maxsize=4096)
def _pieces(pattern: str) -> tuple[_Piece, ...]:
    return tuple(map(_Piece, re.split(r"\*+", pattern)))


class NameIndex:
    """Many names, in which the names that match a pattern are found without trying each of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(sorted({*names}))
        self._set = {*self.names}
        self._joined = "".join(f"{name}\n" for name in self.names)
        self._starts = [0, *accumulate(len(name) + 1 for name in self.names)]
        self._has_match: dict[str, bool] = {}

    def matching(self, pattern: str) -> Iterator[str]:
        """The names that ``pattern`` matches, sorted."""
        literals = re.split(r"[*?]+", pattern)
        if len(literals) == 1:
            yield from {pattern} & self._set
            return
        prefix = literals[0]
        longest = max((*literals[:-1], literals[-1] and f"{literals[-1]}\n"), key=len)
        at = bisect_left(self.names, prefix)
        end = bisect_right(self.names, prefix, key=lambda name: name[: len(prefix)])
        while at < end:
            if longest:
                position = self._joined.find(longest, self._starts[at], self._starts[end])
                if position < 0:
                    return
                at = bisect_right(self._starts, position) - 1
            if matches(pattern, self.names[at]):
                yield self.names[at]
            at += 1

    def any_matching(self, pattern: str) -> bool:
        """True if ``pattern`` matches any of the names."""
        if pattern not in self._has_match:
            self._has_match[pattern] = next(self.matching(pattern), None) is not None
        return self._has_match[pattern]
