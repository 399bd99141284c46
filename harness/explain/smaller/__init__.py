"""Cases that are a step simpler than another: one kind of step a file."""

from __future__ import annotations

from collections.abc import Iterator

from harness.explain.smaller.arguments import plainer_arguments
from harness.explain.smaller.layers import fewer_layers
from harness.explain.smaller.numbers import smaller_numbers
from harness.explain.smaller.promises import fewer_promises
from harness.explain.smaller.shapes import smaller_shapes
from harness.explain.smaller.size import size
from harness.explain.smaller.values import plainer_values
from harness.spec.case import Case

__all__ = ["simpler", "size"]

STEPS = (fewer_promises, fewer_layers, smaller_numbers, smaller_shapes, plainer_arguments, plainer_values)


def simpler(case: Case) -> Iterator[Case]:
    """Every case that is one step simpler than ``case``, the greatest steps first, always in the same order.

    Each is smaller by :func:`size`, so that going from one to the next comes to an end. Not every one can be built.
    """
    bound = size(case)
    for steps in STEPS:
        yield from (candidate for candidate in steps(case) if size(candidate) < bound)
