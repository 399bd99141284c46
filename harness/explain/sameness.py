"""Whether two checks fail in the same way."""

from __future__ import annotations

import re

from harness.result import Result

NUMBERS = re.compile(r"[(\[]?[-+]?\d[\d., )\]e+-]*")
SIGNS = ("NaN", "inf", "outside", "dtype", "shape", "output")
"""Words in the sentences about a disagreement that tell one kind from another."""


def same_failure(one: Result, other: Result) -> bool:
    """True where both fail at the same stage with the same symptom, are blamed on the same hop, and look alike.

    Two disagreements look alike where ``other`` shows no kind of wrong (NaN, infinity, numbers, form) that ``one`` does
    not show; two errors, where their messages are the same but for numbers.
    """
    if one.status not in {"failed", "error"} or other.status not in {"failed", "error"}:
        return False
    if (one.stage, one.symptom, one.blame) != (other.stage, other.symptom, other.blame):
        return False
    if one.symptom == "mismatch" and kinds(one):
        return bool(kinds(other)) and kinds(other) <= kinds(one)
    return _without_numbers(one.message) == _without_numbers(other.message)


def kinds(result: Result) -> frozenset[str]:
    """What is wrong with the outputs, in :data:`SIGNS`."""
    problems = [output.problem for output in result.outputs if output.problem]
    return frozenset(sign for sign in SIGNS for problem in problems if sign in problem)


def _without_numbers(message: str | None) -> str:
    return " ".join(NUMBERS.sub(" ", message or "").split())
