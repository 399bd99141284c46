"""How cases and targets are named: by globs, in which ``[`` and ``]`` are literal characters, and as ``FILE::CASE``.

Matching a glob takes at most the length of the pattern times the length of the text: each piece between two stars is
searched for once, from where the previous piece ended, and there is no backtracking.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import RequestError
from harness.spec.quoting import join_names, suggestion

if TYPE_CHECKING:
    from harness.spec.language.case import Case


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


# One case of a file, as pytest names a test; its name stands for all points of its matrix


def path_and_case(text: Path | str) -> tuple[Path, str]:
    """The parts of ``FILE::CASE``; the case is empty for a path alone, and for a file that has this very name.

    Raises :class:`RequestError` if a folder or nothing stands before the colons.
    """
    path, _, case = str(text).partition("::")
    if not case or os.path.lexists(text):
        return Path(text), ""
    if not path or Path(path).is_dir():
        raise RequestError(
            f"{text}: a case is one of a file; write {Path(path) / 'FILE.yaml'}::{case}, or use -k {case}"
        )
    return Path(path), case


def named_cases(cases: Sequence[Case], names: Sequence[str], file: Path, stem: str) -> tuple[Case, ...]:
    """The cases of ``file`` that ``names`` name: a case with all points of its matrix, or one point.

    ``stem`` is the beginning of the file's ids. Raises :class:`RequestError` for a name without a case.
    """
    points = {case.id.removeprefix(f"{stem}/"): case for case in cases}
    known = dict.fromkeys(point.partition("[")[0] for point in points)
    for name in names:
        if name not in known and name not in points:
            remedy = suggestion(name, known, f"its cases are {join_names(known)}")
            raise RequestError(f"{file}::{name}: no such case; {remedy}")
    return tuple(case for point, case in points.items() if {point, point.partition("[")[0]} & {*names})
