"""Globs: their meaning, and that no pattern is slow."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.spec.glob import NameIndex, matches

LONG = "a" * 5_000
HARD = [
    "*a" * 50 + "*b",
    "a*" * 50 + "b",
    "*" * 50 + "b",
    "*?" * 50 + "*b",
    "?*" * 50 + "?b",
    "*a?" * 50 + "*b?",
    "*" + "a?" * 50 + "b*",
    "*aaaa" * 50 + "*ab*",
]
"""Patterns that do not match ``LONG``; a matcher that backtracks is very slow on them."""


def matches_regex(pattern: str, text: str) -> bool:
    """Match ``text`` with the regular expression that is equivalent to the pattern."""
    parts = re.split(r"(\*+|\?)", pattern)
    regex = "".join(".*" if part[:1] == "*" else "." if part == "?" else re.escape(part) for part in parts)
    return re.fullmatch(regex, text, re.DOTALL) is not None


PATTERNS = st.text("ab*?[]\n", max_size=9)
TEXTS = st.text("ab[]\n", max_size=9)


@settings(max_examples=1500)
@given(PATTERNS, TEXTS)
def test_a_pattern_means_what_its_regular_expression_means(pattern: str, text: str) -> None:
    assert matches(pattern, text) == matches_regex(pattern, text)


@settings(max_examples=500)
@given(PATTERNS, st.lists(TEXTS, max_size=8))
def test_an_index_finds_the_names_that_match(pattern: str, texts: list[str]) -> None:
    matching = list(NameIndex(texts).matching(pattern))
    assert matching == sorted({text for text in texts if matches_regex(pattern, text)})
    assert NameIndex(texts).any_matching(pattern) == bool(matching)


@pytest.mark.parametrize(("pattern", "text"), [("a[0]*", "a0"), ("a[0]*", "a[0]b"), ("*.b?", "aXb1"), ("[!a]", "b")])
def test_only_stars_and_question_marks_are_special(pattern: str, text: str) -> None:
    assert matches(pattern, text) == ("[0]" in text)


@pytest.mark.parametrize("pattern", HARD)
def test_no_pattern_backtracks(pattern: str) -> None:
    """Matching each pattern terminates."""
    assert not matches(pattern, LONG)
    assert matches(pattern.rstrip("b?*") + "*", LONG)
    assert not NameIndex([LONG]).any_matching(pattern)


def test_names_with_a_common_prefix_are_not_each_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.spec import glob

    tried: list[str] = []

    def recorded(pattern: str, text: str) -> bool:
        tried.append(text)
        return matches(pattern, text)

    monkeypatch.setattr(glob, "matches", recorded)
    names = NameIndex(f"layer/case[seed={at:05}]" for at in range(20_000))
    assert list(names.matching("*seed=01234]")) == list(names.matching("layer/case[seed=01234?"))
    assert len(tried) == 2
