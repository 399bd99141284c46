"""Shrink a failing case: try simpler cases until none of them fails in the same way, or until the time is over."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from harness.explain.simpler_models import fewer_layers, fewer_requirements, simpler_arguments
from harness.explain.simpler_tensors import complexity, simpler_values, smaller_numbers, smaller_shapes
from harness.result import Result
from harness.spec.language.case import Case

__all__ = ["ShrunkCase", "complexity", "same_failure", "shrink", "simpler_cases"]

SIMPLIFICATIONS = (fewer_requirements, fewer_layers, smaller_numbers, smaller_shapes, simpler_arguments, simpler_values)

ERROR_KINDS = ("NaN", "inf", "than the tolerance", "dtype", "shape", "output")
"""Words that distinguish the kinds of error in the message of a comparison."""

NUMBERS = re.compile(r"[(\[]?[-+]?\d[\d., )\]e+-]*")


@dataclass(frozen=True, slots=True)
class ShrunkCase:
    """``case`` still fails. ``minimal`` is True if no case that is one step simpler fails.

    ``tried`` simplifications were checked, and ``steps`` of them still failed and were kept.
    """

    case: Case
    steps: int
    tried: int
    minimal: bool


def shrink(case: Case, fails: Callable[[Case], bool], budget_s: float) -> ShrunkCase:
    """The simplest case that is reachable from ``case``, which fails itself, through cases that fail.

    Deterministic, except for where the time ends. The first simplification that still fails is kept, and the search
    goes on from the next one. It ends when a whole round keeps none. No case is checked twice.
    """
    until = time.monotonic() + budget_s
    # A file of weights has to fit the whole model. It fits this one, and a simpler model needs only some of them.
    case = replace(case, model=replace(case.model, weights_file=""))
    tried = {_key(case)}
    steps = 0
    while True:
        before = steps
        position = 0
        candidates = list(simpler_cases(case))
        while position < len(candidates):
            candidate = candidates[position]
            position += 1
            if _key(candidate) in tried:
                continue
            if time.monotonic() >= until:
                return ShrunkCase(case, steps, len(tried) - 1, minimal=False)
            tried.add(_key(candidate))
            if fails(candidate):
                case, steps = candidate, steps + 1
                candidates = list(simpler_cases(case))
                position = min(position - 1, len(candidates))
        if steps == before:
            return ShrunkCase(case, steps, len(tried) - 1, minimal=True)


def simpler_cases(case: Case) -> Iterator[Case]:
    """Every case that is one step simpler than ``case``: the largest steps first, in a fixed order.

    Each has a smaller :func:`complexity`, so repeated steps come to an end. Some of the cases cannot be built.
    """
    limit = complexity(case)
    for simplification in SIMPLIFICATIONS:
        yield from (candidate for candidate in simplification(case) if complexity(candidate) < limit)


def same_failure(original: Result, simpler: Result) -> bool:
    """True if both fail in the same stage with the same symptom and blame, and with similar errors.

    Two disagreements are similar if ``simpler`` has no kind of error (NaN, infinity, values, structure) that
    ``original`` does not have. Two exceptions are similar if their messages differ only in numbers.
    """
    if original.status not in {"failed", "error"} or simpler.status not in {"failed", "error"}:
        return False
    if (original.stage, original.symptom, original.blame) != (simpler.stage, simpler.symptom, simpler.blame):
        return False
    if original.symptom == "mismatch" and error_kinds(original):
        return bool(error_kinds(simpler)) and error_kinds(simpler) <= error_kinds(original)
    return _without_numbers(original.message) == _without_numbers(simpler.message)


def error_kinds(result: Result) -> frozenset[str]:
    """The kinds of error in the outputs, from :data:`ERROR_KINDS`."""
    problems = [output.problem for output in result.outputs if output.problem]
    return frozenset(kind for kind in ERROR_KINDS for problem in problems if kind in problem)


def _without_numbers(message: str | None) -> str:
    return " ".join(NUMBERS.sub(" ", message or "").split())


def _key(case: Case) -> str:
    """A string that is equal for equal cases."""
    return repr(case)
