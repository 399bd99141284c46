"""The verdict: one whole answer held against another.

Who is nearer to the truth: eager torch or the target, by the float64 oracle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.compare.numbers import same_bits
from harness.compare.output import Asked, Held, hold
from harness.compare.structure import wrong_outputs
from harness.result import Distance, OutputComparison
from harness.spec.language.tolerances import Tolerance

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


def distances(
    eager: Mapping[str, Array],
    target: Mapping[str, Array],
    oracle: Mapping[str, Array],
    *,
    undefined: Sequence[Array | None] = (),
) -> tuple[Distance, ...]:
    """One :class:`Distance` for each output of the oracle, paired by name.

    NaN against NaN and an infinity against itself are 0 apart. A distance is infinite where the answer lacks the
    output, has another shape, or holds NaN or an infinity where the oracle does not. ``undefined`` masks are left out.
    """
    return tuple(
        _between(index, eager.get(name), target.get(name), np.asarray(truth), _at(undefined, index))
        for index, (name, truth) in enumerate(oracle.items())
    )


def _between(index: int, eager: Array | None, target: Array | None, truth: Array, undefined: Array | None) -> Distance:
    eagers = _farthest(eager, truth, undefined)
    alike = eager is not None and target is not None and same_bits(eager, target)
    targets = eagers if alike else _farthest(target, truth, undefined)
    nearer: Literal["eager", "target", "neither"] = "neither"
    if eagers != targets:
        nearer = "eager" if eagers < targets else "target"
    return Distance(index, eagers, targets, nearer)


def _farthest(answer: Array | None, truth: Array, undefined: Array | None) -> float:
    """The largest ``|answer - truth|`` in float64."""
    if answer is None or np.shape(answer) != truth.shape:
        return math.inf
    with np.errstate(all="ignore"):
        found, wanted = np.asarray(answer).astype(np.float64), truth.astype(np.float64, copy=False)
        apart = np.abs(found - wanted)
        farthest = float(apart.max(initial=0.0))
        if undefined is None and math.isfinite(farthest):  # as nearly always: no NaN and no infinity on either side
            return farthest
        same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
        if undefined is not None:
            same |= undefined
        farthest = float(np.where(same, 0.0, apart).max(initial=0.0))
    return math.inf if math.isnan(farthest) else farthest
