"""The verdict: one whole answer held against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.output import Asked, Held, hold
from harness.compare.structure import wrong_outputs
from harness.result import OutputComparison
from harness.spec.tolerance import Tolerance

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of holding one answer against another.

    ``outputs`` are those that stand on both sides, in the reference's order. ``problems`` are about the answer as a
    whole, one sentence each. ``notes`` are what the reader should know although it may pass. ``at`` names the
    shapes, where an artifact is verified at several.
    """

    outputs: tuple[OutputComparison, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    at: str | None = None

    @property
    def passed(self) -> bool:
        """True where something was compared and nothing is wrong."""
        return bool(self.outputs) and not self.problems and all(output.passed for output in self.outputs)

    @property
    def message(self) -> str:
        """One sentence: the worst of what is wrong, with its numbers; or how near the two are."""
        said = self._agreement() if self.passed else self._trouble()
        return said if self.at is None else f"at {self.at}: {said}"

    def _trouble(self) -> str:
        failing = sorted((output for output in self.outputs if not output.passed), key=_gravity)
        said = [*self.problems, *(f"{output.name}: {output.problem}" for output in failing)]
        more = "" if len(said) == 1 else f" (and {len(said) - 1} more)"
        return said[0] + more

    def _agreement(self) -> str:
        elements, outputs = sum(output.of for output in self.outputs), len(self.outputs)
        apart = max((output.max_ulp for output in self.outputs if output.max_ulp is not None), default=0)
        return f"{elements} elements of {outputs} output{'s'[: outputs > 1]} agree, at most {apart} ulp apart"


def compare(
    actual: Mapping[str, Array],
    expected: Mapping[str, Array],
    tolerance: Tolerance,
    *,
    magnitudes: Sequence[Array | None] = (),
    undefined: Sequence[Array | None] = (),
    at: str | None = None,
) -> Comparison:
    """Hold the outputs ``actual`` against ``expected``, paired by name.

    ``tolerance`` goes by the index in ``expected``, as do ``magnitudes`` (for ``Scaled``: of each element the sum of
    its terms' magnitudes) and ``undefined`` (True at elements that are not compared); both have the outputs' shapes.
    Equal values pass under every rule; the sign of zero is told in a note and counts for nothing.

    An output without elements passes by its shape and dtype. Nothing compared is not a pass: no outputs at all, or
    every element undefined.

    Raises ``ValueError`` for ``Scaled`` without magnitudes, a bound that is negative or not finite, and masks or
    magnitudes of another shape than the reference; never for what the arrays hold.
    """
    problems = wrong_outputs(actual, expected)
    with np.errstate(all="ignore"):
        held = [
            hold(
                Asked(index, name, tolerance, _at(magnitudes, index), _at(undefined, index), at),
                actual[name],
                expected[name],
            )
            for index, name in enumerate(expected)
            if name in actual
        ]
    if _all_left_out(held):
        problems = (*problems, "nothing was compared: the layer defines no element of any output")
    notes = tuple(note for each in held for note in each.notes)
    return Comparison(tuple(each.output for each in held), problems, notes, at)


def _all_left_out(held: Sequence[Held]) -> bool:
    return any(each.left_out for each in held) and not any(each.compared for each in held)


def _gravity(output: OutputComparison) -> tuple[bool, float]:
    """Sorts what could not be compared at all first, then by the share of wrong elements."""
    return (output.of > 0, -output.mismatched / max(output.of, 1))


def _at(arrays: Sequence[Array | None], index: int) -> Array | None:
    return arrays[index] if index < len(arrays) else None
