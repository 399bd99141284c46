"""Globs: what they mean, and that no pattern is slow."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.spec.glob import Names, matches

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
"""Patterns that match nothing of ``LONG``, which a matcher that goes back finds out after a very long time."""


def by_going_back(pattern: str, text: str) -> bool:
    """The meaning of a pattern, as a regular expression says it."""
    parts = re.split(r"(\*+|\?)", pattern)
    form = "".join(".*" if part[:1] == "*" else "." if part == "?" else re.escape(part) for part in parts)
    return re.fullmatch(form, text, re.DOTALL) is not None


PATTERNS = st.text("ab*?[]\n", max_size=9)
TEXTS = st.text("ab[]\n", max_size=9)


@settings(max_examples=1500)
@given(PATTERNS, TEXTS)
def test_a_pattern_means_what_its_regular_expression_means(pattern: str, text: str) -> None:
    assert matches(pattern, text) == by_going_back(pattern, text)


@settings(max_examples=500)
@given(PATTERNS, st.lists(TEXTS, max_size=8))
def test_names_are_found_as_if_each_were_tried(pattern: str, texts: list[str]) -> None:
    found = list(Names(texts).matching(pattern))
    assert found == sorted({text for text in texts if by_going_back(pattern, text)})
    assert Names(texts).any_matching(pattern) == bool(found)


@pytest.mark.parametrize(("pattern", "text"), [("a[0]*", "a0"), ("a[0]*", "a[0]b"), ("*.b?", "aXb1"), ("[!a]", "b")])
def test_nothing_but_stars_and_question_marks_is_special(pattern: str, text: str) -> None:
    assert matches(pattern, text) == ("[0]" in text)


@pytest.mark.parametrize("pattern", HARD)
def test_no_pattern_is_tried_again_and_again(pattern: str) -> None:
    """Each of these simply comes to an end."""
    assert not matches(pattern, LONG)
    assert matches(pattern.rstrip("b?*") + "*", LONG)
    assert not Names([LONG]).any_matching(pattern)


def test_names_that_share_all_but_their_ends_are_not_each_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.spec import glob

    tried: list[str] = []

    def trying(pattern: str, text: str) -> bool:
        tried.append(text)
        return matches(pattern, text)

    monkeypatch.setattr(glob, "matches", trying)
    names = Names(f"layer/case[seed={at:05}]" for at in range(20_000))
    assert list(names.matching("*seed=01234]")) == list(names.matching("layer/case[seed=01234?"))
    assert len(tried) == 2
