"""Cases that are a step simpler than another: one kind of step a file.

Whether two checks fail in the same way.

The smallest case that still fails: simpler ones are tried until none of them does, or the time is over.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.explain.simpler_models import fewer_layers, fewer_promises, plainer_arguments
from harness.explain.simpler_tensors import plainer_values, size, smaller_numbers, smaller_shapes
from harness.result import Result
from harness.spec.language.case import Case

__all__ = ["simpler", "size"]

STEPS = (fewer_promises, fewer_layers, smaller_numbers, smaller_shapes, plainer_arguments, plainer_values)


def simpler(case: Case) -> Iterator[Case]:
    """Every case that is one step simpler than ``case``, the greatest steps first, always in the same order.

    Each is smaller by :func:`size`, so that going from one to the next comes to an end. Not every one can be built.
    """
    bound = size(case)
    for steps in STEPS:
        yield from (candidate for candidate in steps(case) if size(candidate) < bound)


NUMBERS = re.compile(r"[(\[]?[-+]?\d[\d., )\]e+-]*")
SIGNS = ("NaN", "inf", "than the tolerance", "dtype", "shape", "output")
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


@dataclass(frozen=True, slots=True)
class Shrunk:
    """``case`` still fails. ``minimal`` is True where no case that is one step simpler does.

    ``steps`` are the simplifications that held, of ``tried``.
    """

    case: Case
    steps: int
    tried: int
    minimal: bool


def shrink(case: Case, fails: Callable[[Case], bool], budget_s: float) -> Shrunk:
    """The simplest case that is reached from ``case``, which itself fails, by steps after which ``fails`` still holds.

    Deterministic but for where the time ends: the first simplification that still fails is taken, then the next one
    after it, and over again until a whole round brings nothing. No case is asked about twice.
    """
    until = time.monotonic() + budget_s
    seen = {_key(case)}
    steps = 0
    while True:
        before = steps
        position = 0
        candidates = list(simpler(case))
        while position < len(candidates):
            candidate = candidates[position]
            position += 1
            if _key(candidate) in seen:
                continue
            if time.monotonic() >= until:
                return Shrunk(case, steps, len(seen) - 1, minimal=False)
            seen.add(_key(candidate))
            if fails(candidate):
                case, steps = candidate, steps + 1
                candidates = list(simpler(case))
                position = min(position - 1, len(candidates))
        if steps == before:
            return Shrunk(case, steps, len(seen) - 1, minimal=True)


def _key(case: Case) -> str:
    """What two cases must have in common to be the same question."""
    return repr(case)
