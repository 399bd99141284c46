"""Compare a whole answer, all of its outputs, with its reference.

:func:`compare` applies the tolerance. :func:`distances` tells which of two answers, eager torch's or the target's, is
closer to the float64 reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.compare.calibrated import plain_rule
from harness.compare.numbers import same_bits
from harness.compare.output import ComparedOutput, OutputRequest, compare_output
from harness.model.answer import Reference, Step
from harness.result import Distance, OutputComparison
from harness.spec.language.tolerances import Close, Tolerance

Array = NDArray[Any]

MAX_EXCHANGED = 8
"""Answers with more outputs are not searched for an exchange: each is compared with each."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of an answer with its reference.

    ``outputs`` are those that both sides have, in the reference's order. ``problems`` are about the answer as a whole,
    one sentence each. ``notes`` are remarks for the reader that do not fail the answer. ``at`` names the set of inputs,
    where an artifact is verified at several; ``repeats_shapes`` is True if another set has the same shapes. ``step`` is
    that of a loop.
    """

    outputs: tuple[OutputComparison, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    at: str | None = None
    repeats_shapes: bool = False
    step: Step | None = None

    @property
    def passed(self) -> bool:
        """True if something was compared and there are no problems."""
        return bool(self.outputs) and not self.problems and all(output.passed for output in self.outputs)

    @property
    def message(self) -> str:
        """One sentence: the worst problem with its numbers, or how close the two answers are."""
        message = self._agreement() if self.passed else self._worst_problem()
        return message if self.at is None else f"at {self.at}: {message}"

    def _worst_problem(self) -> str:
        failing = sorted((output for output in self.outputs if not output.passed), key=_severity_order)
        problems = [*self.problems, *(f"{output.name}: {output.problem}" for output in failing)]
        more = "" if len(problems) == 1 else f" (and {len(problems) - 1} more)"
        return problems[0] + more

    def _agreement(self) -> str:
        values, outputs = sum(output.of for output in self.outputs), len(self.outputs)
        max_ulp = max((output.max_ulp for output in self.outputs if output.max_ulp is not None), default=0)
        plural = "s" if outputs > 1 else ""
        return f"{values} values of {outputs} output{plural} agree; largest difference: {max_ulp:.4g} ulp"


def compare(
    actual: Mapping[str, Array],
    expected: Mapping[str, Array],
    tolerance: Tolerance,
    *,
    magnitudes: Sequence[Array | None] = (),
    undefined: Sequence[Array | None] = (),
    float64: Mapping[str, Array] | None = None,
    lower: Mapping[str, Array] | None = None,
    computes_in: str | None = None,
    flips: Mapping[str, float] | None = None,
    at: str | None = None,
) -> Comparison:
    """Compare the outputs ``actual`` with ``expected``, paired by name.

    ``tolerance``, ``magnitudes`` and ``undefined`` go by the index in ``expected``. ``magnitudes`` (for ``Scaled``)
    hold the sum of magnitudes of terms of each value, ``undefined`` is True at values that are not compared; both have
    the outputs' shapes. ``float64`` (for ``Calibrated``) is the float64 reference by name, ``lower`` the reference's
    run in a lower precision, ``computes_in`` the 16-bit dtype that it computes in by itself, and ``flips`` the shares
    of integers that its rounding decides, by name. Equal values pass under every rule. A different sign of zero is
    noted and counts as equal.

    An output without elements passes by its shape and dtype. Nothing compared is not a pass: no outputs at all, or
    every value undefined.

    Raises ``ValueError`` for ``Scaled`` without magnitudes, a bound that is negative or not finite, and masks or
    magnitudes of another shape than the reference; never because of the arrays' values.
    """
    problems = _output_set_problems(actual, expected)
    with np.errstate(all="ignore"):
        compared = [
            compare_output(
                OutputRequest(
                    index,
                    name,
                    tolerance,
                    _item(magnitudes, index),
                    _item(undefined, index),
                    _of_same_shape(float64, name, expected[name]),
                    at,
                    _of_same_shape(lower, name, expected[name]),
                    computes_in,
                    (flips or {}).get(name, 0.0),
                ),
                actual[name],
                expected[name],
            )
            for index, name in enumerate(expected)
            if name in actual
        ]
    if _all_left_out(compared):
        problems = (*problems, "nothing was compared: every value is undefined by the layer")
    notes = tuple(note for output in compared for note in output.notes)
    return Comparison(tuple(output.output for output in compared), problems, notes, at)


def compare_with_reference(answer: Mapping[str, Array], reference: Reference, tolerance: Tolerance) -> Comparison:
    """Compare ``answer`` with eager torch's."""
    comparison = compare(
        answer,
        reference.eager,
        tolerance,
        magnitudes=reference.magnitudes,
        undefined=reference.undefined,
        float64=reference.float64,
        lower=reference.lower,
        computes_in=reference.computes_in,
        flips=reference.flips,
        at=reference.at,
    )
    outputs = tuple(
        replace(output, name=f"{output.name} ({reference.paths[output.index]})")
        if output.index < len(reference.paths) and reference.paths[output.index] != output.name
        else output
        for output in comparison.outputs
    )
    return replace(comparison, outputs=outputs, repeats_shapes=reference.repeats_shapes, step=reference.step)


def exchanged_outputs(actual: Mapping[str, Array], expected: Mapping[str, Array]) -> str | None:
    """The cause if outputs are exchanged: each wrong one holds the values that are expected of another. Else None."""
    if list(actual) != list(expected) or not 1 < len(actual) <= MAX_EXCHANGED:
        return None
    wrong = [name for name in actual if not _is_close(actual[name], expected[name])]
    holders = {name: [other for other in wrong if _is_close(actual[name], expected[other])] for name in wrong}
    others = {name: found[0] for name, found in holders.items() if len(found) == 1}
    if not wrong or sorted(others.values()) != sorted(wrong):
        return None
    pairs = ", ".join(f"{name} holds what is expected of {other}" for name, other in others.items())
    return f"the outputs are in another order ({pairs})"


def _is_close(actual: Array, expected: Array) -> bool:
    if (actual.dtype, actual.shape) != (expected.dtype, expected.shape):
        return False
    rule = plain_rule(expected.dtype.name)
    if not isinstance(rule, Close):
        return np.array_equal(actual, expected)
    pair = actual.astype(np.float64), expected.astype(np.float64)
    return np.allclose(*pair, rtol=rule.rtol, atol=rule.atol, equal_nan=True)


def _output_set_problems(actual: Mapping[str, Array], expected: Mapping[str, Array]) -> tuple[str, ...]:
    """Problems with the set of outputs: their count, names and order."""
    if not actual and not expected:
        return ("nothing was compared: neither the answer nor the reference has an output",)
    if list(actual) == list(expected):
        return ()
    missing = [name for name in expected if name not in actual]
    extra = [name for name in actual if name not in expected]
    problems = [] if len(actual) == len(expected) else [f"{_output_count(len(actual))}, expected {len(expected)}"]
    problems += [f"{name} is missing" for name in missing]
    problems += [f"{name} is not an output of the reference" for name in extra]
    if not missing and not extra:
        problems.append(f"the order of the outputs is {_listed(actual)}; expected {_listed(expected)}")
    return tuple(problems)


def _output_count(count: int) -> str:
    return f"{count} output" if count == 1 else f"{count} outputs"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _all_left_out(compared: Sequence[ComparedOutput]) -> bool:
    return any(output.left_out for output in compared) and not any(output.compared for output in compared)


def _severity_order(output: OutputComparison) -> tuple[bool, float]:
    """Sort key: outputs that could not be compared first, then by the share of wrong values."""
    return (output.of > 0, -output.mismatched / max(output.of, 1))


def _item(arrays: Sequence[Array | None], index: int) -> Array | None:
    return arrays[index] if index < len(arrays) else None


def _of_same_shape(float64: Mapping[str, Array] | None, name: str, expected: Array) -> Array | None:
    """The other run of an output; None if there is none, or if it has another shape."""
    found = None if float64 is None else float64.get(name)
    return found if found is not None and np.shape(found) == np.shape(expected) else None


def distances(
    eager: Mapping[str, Array],
    target: Mapping[str, Array],
    float64: Mapping[str, Array],
    *,
    undefined: Sequence[Array | None] = (),
) -> tuple[Distance, ...]:
    """The :class:`Distance` of each output of the float64 reference, paired by name.

    NaN against NaN and an infinity against itself are 0 apart. A distance is infinite if the answer lacks the output,
    has another shape, or holds NaN or an infinity where the reference does not. ``undefined`` values are left out.
    """
    return tuple(
        _distance(index, eager.get(name), target.get(name), np.asarray(reference), _item(undefined, index))
        for index, (name, reference) in enumerate(float64.items())
    )


def _distance(
    index: int, eager: Array | None, target: Array | None, reference: Array, undefined: Array | None
) -> Distance:
    eager_distance = _max_distance(eager, reference, undefined)
    identical = eager is not None and target is not None and same_bits(eager, target)
    target_distance = eager_distance if identical else _max_distance(target, reference, undefined)
    nearer: Literal["eager", "target", "neither"] = "neither"
    if eager_distance != target_distance:
        nearer = "eager" if eager_distance < target_distance else "target"
    return Distance(index, eager_distance, target_distance, nearer)


def _max_distance(answer: Array | None, reference: Array, undefined: Array | None) -> float:
    """The largest ``|answer - reference|`` in float64."""
    if answer is None or np.shape(answer) != reference.shape:
        return math.inf
    with np.errstate(all="ignore"):
        actual, expected = np.asarray(answer).astype(np.float64), reference.astype(np.float64, copy=False)
        distance = np.abs(actual - expected)
        largest = float(distance.max(initial=0.0))
        if undefined is None and math.isfinite(largest):  # the common case: no NaN and no infinity on either side
            return largest
        zero = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
        if undefined is not None:
            zero |= undefined
        largest = float(np.where(zero, 0.0, distance).max(initial=0.0))
    return math.inf if math.isnan(largest) else largest
