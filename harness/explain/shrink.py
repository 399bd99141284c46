"""The smallest case that still fails: simpler ones are tried until none of them does, or the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.explain.smaller import simpler
from harness.spec.case import Case


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
