"""Globs over case ids and targets, in which ``[`` and ``]`` stand for themselves.

No pattern takes longer than its length times the text's: each run of characters between two stars is looked for once,
from where the run before it ended, and nothing is tried again.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate


def matches(pattern: str, text: str) -> bool:
    """True where ``pattern`` covers all of ``text``: ``*`` is any run of characters, ``?`` any one character."""
    first, *others = _runs(pattern)
    if not others:
        return len(text) == first.length and first.stands_at(text, 0)
    *middle, last = others
    begin, end = first.length, len(text) - last.length
    if begin > end or not first.stands_at(text, 0) or not last.stands_at(text, end):
        return False
    for run in middle:
        # The leftmost place leaves most for the runs that follow, so no other need be tried.
        found = run.find(text, begin, end)
        if found < 0:
            return False
        begin = found + run.length
    return True


class _Run:
    """Characters between two stars, of which ``?`` stands for any one."""

    def __init__(self, text: str) -> None:
        self.text, self.length = text, len(text)
        # A regular expression that repeats nothing never goes back.
        form = "".join("." if each == "?" else re.escape(each) for each in text)
        self.form = re.compile(form, re.DOTALL) if "?" in text else None

    def stands_at(self, text: str, place: int) -> bool:
        if self.form is None:
            return text.startswith(self.text, place)
        return self.form.match(text, place) is not None

    def find(self, text: str, begin: int, end: int) -> int:
        """The first place from ``begin`` where the run ends by ``end``; -1 where there is none."""
        if self.form is None:
            return text.find(self.text, begin, end)
        found = self.form.search(text, begin, end)
        return -1 if found is None else found.start()


@lru_cache(maxsize=4096)
def _runs(pattern: str) -> tuple[_Run, ...]:
    return tuple(map(_Run, re.split(r"\*+", pattern)))


class Names:
    """Many names, among which those that a pattern matches are found without trying each of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.every = tuple(sorted({*names}))
        self._known = {*self.every}
        self._joined = "".join(f"{each}\n" for each in self.every)
        self._begins = [0, *accumulate(len(each) + 1 for each in self.every)]
        self._matched: dict[str, bool] = {}

    def matching(self, pattern: str) -> Iterator[str]:
        """The names that ``pattern`` matches, sorted."""
        literals = re.split(r"[*?]+", pattern)
        if len(literals) == 1:
            yield from {pattern} & self._known
            return
        prefix = literals[0]
        longest = max((*literals[:-1], literals[-1] and f"{literals[-1]}\n"), key=len)
        at = bisect_left(self.every, prefix)
        end = bisect_right(self.every, prefix, key=lambda name: name[: len(prefix)])
        while at < end:
            if longest:
                place = self._joined.find(longest, self._begins[at], self._begins[end])
                if place < 0:
                    return
                at = bisect_right(self._begins, place) - 1
            if matches(pattern, self.every[at]):
                yield self.every[at]
            at += 1

    def any_matching(self, pattern: str) -> bool:
        """Whether ``pattern`` matches any of the names."""
        if pattern not in self._matched:
            self._matched[pattern] = next(self.matching(pattern), None) is not None
        return self._matched[pattern]
