"""Judge a target's answers: compare them with the reference answers and with the spec's ``expect``. NumPy only.

The targets of a case mostly give the same answer to the last bit. Such answers are compared once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.check.cache.memo import Memo
from harness.compare.calibrated import plain_rule, without_calibration
from harness.compare.numbers import same_bits
from harness.compare.verdict import Comparison, compare, compare_with_reference, distances
from harness.model.answer import Reference, is_second_call
from harness.result import Distance, Finding
from harness.runtimes import Differentiable, Session
from harness.spec.expressions import compile_expression
from harness.spec.language.tolerances import Scaled, Tolerance, Ulp

Array = NDArray[Any]
Answer = Mapping[str, Array]
"""The outputs by name."""

MET_IN_FLOAT64 = "float64 meets "
"""The beginning of a finding about a key of ``expect`` that eager torch does not meet and the float64 reference does.
"""


@dataclass(frozen=True)
class Expected:
    """The spec's ``expect`` (:class:`harness.spec.language.case.Expectation`) with every tensor as an array.

    ``outputs`` are what the answer must equal; ``equals`` and ``differs_from`` are the answers of the other models.
    ``names`` are the arguments and parameters that an expression may use, none if there is no expression. ``first`` is
    the label of the first input.
    """

    first: str | None = None
    outputs: Answer | None = None
    shape: tuple[tuple[int, ...], ...] | None = None
    range: tuple[float, float] | None = None
    formula: str | None = None
    gradient: Mapping[str, str] = field(default_factory=dict)
    gradient_range: tuple[float, float] | None = None
    equals: Answer | None = None
    differs_from: Answer | None = None
    names: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ComparedAnswer:
    """A comparison with the two answers that were compared. ``undefined`` goes by the index of the output."""

    comparison: Comparison
    actual: Answer
    expected: Answer
    undefined: Sequence[Array | None] = ()


@dataclass(frozen=True)
class Verdict:
    """A target's answers compared: with the reference at each set of shapes, and with the spec's ``expect``.

    ``keeps_random`` is True if eager torch in evaluation mode draws random numbers at each call, and the target
    answers alike twice. ``unrepeatable`` says why eager torch's answers differ from call to call, if they do.
    """

    compared: tuple[ComparedAnswer, ...]
    findings: tuple[Finding, ...]
    distances: tuple[Distance, ...]
    keeps_random: bool = False
    unrepeatable: str | None = None

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The comparisons of :attr:`compared`, in the same order."""
        return tuple(answer.comparison for answer in self.compared)

    @cached_property
    def first_failing(self) -> int:
        """The index of the first comparison that does not pass; 0 if all pass."""
        return next((index for index, comparison in enumerate(self.comparisons) if not comparison.passed), 0)

    @cached_property
    def passed(self) -> bool:
        """True if values were compared, and all comparisons and findings pass."""
        agree = all(comparison.passed for comparison in self.comparisons)
        return bool(self.compared) and agree and all(finding.passed for finding in self.findings)

    @property
    def fails_after_first_call(self) -> bool:
        """True if the first answer agrees and one to other inputs is the first that does not."""
        first = self.comparisons[self.first_failing] if self.compared else None
        return first is not None and self.comparisons[0].passed and not (first.passed or is_second_call(first.at))

    def with_further(
        self, reference: Reference, answer: Answer, tolerance: Tolerance, stopped: str | None = None
    ) -> Verdict:
        """The same with the comparison of one more answer. ``stopped`` says why there is none."""
        comparison = compare_with_reference(answer, reference, tolerance)
        comparison = comparison if stopped is None else replace(comparison, problems=(stopped,))
        further = ComparedAnswer(comparison, answer, reference.eager, reference.undefined)
        return replace(self, compared=(*self.compared, further))


class Judge:
    """Judges the answers of all targets of a case, equal ones once."""

    def __init__(self, memo: Memo) -> None:
        self._memo = memo
        self._judged: list[tuple[Tolerance, Sequence[Answer]]] = []

    def verdict(
        self,
        references: Sequence[Reference],
        expected: Expected,
        answers: Sequence[Answer],
        tolerance: Tolerance,
        session: Session,
    ) -> Verdict:
        """The verdict on ``answers``, one per reference. Gradients, if expected, are those of ``session``."""
        number = self._number_of(tolerance, answers)
        verdict = self._memo.get(f"verdict {number}", lambda: _verdict(references, expected, answers, tolerance))
        if not (expected.gradient or expected.gradient_range) or not isinstance(session, Differentiable):
            return verdict
        reference, answer = references[0], answers[0]
        if not have_same_form(answer, reference.eager):
            return verdict
        gradients = check_gradients(expected, reference, answer, session.gradients(reference.inputs))
        return replace(verdict, findings=(*verdict.findings, *gradients))

    def _number_of(self, tolerance: Tolerance, answers: Sequence[Answer]) -> int:
        """The number of these answers among the distinct ones so far."""
        for number, (judged_tolerance, judged) in enumerate(self._judged):
            if judged_tolerance == tolerance and _are_identical(judged, answers):
                return number
        self._judged.append((tolerance, answers))
        return len(self._judged) - 1


def run_twice(
    references: Sequence[Reference], session: Session, open_session: Callable[[], Session]
) -> tuple[list[Reference], list[Answer], bool]:
    """Run the inputs of each reference twice in a row: the references, one answer for each, and whether any differed.

    A second answer is returned, with the reference of a second call, if it can say anything: if it differs from the
    first, or if eager torch's does. A module that keeps state begins anew with each set of inputs, so the target gets
    a new session then.
    """
    called: list[Reference] = []
    answers: list[Answer] = []
    varies = False
    for reference in references:
        fresh = open_session() if called and reference.keeps_state else None
        try:
            first, second = (reference.comparable_part((fresh or session).run(reference.inputs)) for _ in range(2))
        finally:
            if fresh is not None:
                fresh.close()
        called.append(reference)
        answers.append(first)
        identical = _are_identical([first], [second])
        varies |= not identical
        if not reference.stochastic and (reference.second_call is not None or not identical):
            called.append(reference.at_second_call())
            answers.append(second)
    return called, answers, varies


def _are_identical(first: Sequence[Answer], second: Sequence[Answer]) -> bool:
    """True if all outputs of all answers agree in name, dtype, shape and every bit."""
    return len(first) == len(second) and all(
        list(one) == list(other) and all(same_bits(one[name], other[name]) for name in one)
        for one, other in zip(first, second, strict=True)
    )


def _verdict(
    references: Sequence[Reference], expected: Expected, answers: Sequence[Answer], tolerance: Tolerance
) -> Verdict:
    reference, answer = references[0], answers[0]
    same_form = have_same_form(answer, reference.eager)
    findings = check_expectations(expected, reference, answer, tolerance) if same_form else []
    if reference.stochastic:
        message = f"{_describe_form(answer)}, expected {_describe_form(reference.eager)}"
        findings.append(Finding("structure", same_form, message))
    compared = tuple(
        ComparedAnswer(compare_with_reference(actual, each, tolerance), actual, each.eager, each.undefined)
        for each, actual in zip(references, answers, strict=True)
        if not each.stochastic
    )
    nearest: tuple[Distance, ...] = ()
    if reference.float64 is not None:
        nearest = distances(reference.eager, answer, reference.float64, undefined=reference.undefined)
    return Verdict(compared, tuple(findings), nearest)


def meets_expectations(expected: Expected, reference: Reference, tolerance: Tolerance, answer: Answer) -> bool:
    """True if ``answer`` has the form of the reference and meets every expectation of its outputs."""
    return have_same_form(answer, reference.eager) and all(
        finding.passed for finding in check_expectations(expected, reference, answer, tolerance)
    )


def have_same_form(answer: Answer, reference: Answer) -> bool:
    """True if names, dtypes and shapes agree.

    An answer of another form fails, and the spec's expressions could not be evaluated on it.
    """
    return _form(answer) == _form(reference)


def _form(outputs: Answer) -> list[tuple[str, Any, tuple[int, ...]]]:
    return [(name, values.dtype, values.shape) for name, values in outputs.items()]


def _describe_form(outputs: Answer) -> list[str]:
    return [f"{name} {values.dtype}{list(values.shape)}" for name, values in outputs.items()]


def check_expectations(expected: Expected, reference: Reference, answer: Answer, tolerance: Tolerance) -> list[Finding]:
    """A finding for each key under ``expect`` that is about outputs."""
    return [_finding(requirement) for requirement in _requirements(expected, reference, answer, tolerance)]


def check_gradients(expected: Expected, reference: Reference, answer: Answer, gradients: Answer) -> list[Finding]:
    """A finding for each gradient that the spec gives as an expression, and for the range of the first input's."""
    names = _expression_names(expected, reference, answer)
    requirements: list[Finding | _Agreement] = []
    for name, text in expected.gradient.items():
        values = np.asarray(compile_expression(text).evaluate(names), dtype=np.float64)
        actual = gradients[name]
        requirements.append(
            _formula_agreement("gradient", actual, np.broadcast_to(values, actual.shape), f"gradient by {name}")
        )
    if expected.gradient_range is not None and expected.first is not None:
        requirements.append(_in_range("gradient_range", gradients[expected.first], expected.gradient_range))
    return [_finding(requirement) for requirement in requirements]


@dataclass(frozen=True, slots=True)
class _Agreement:
    """A requirement of the spec that ``actual`` agrees with ``expected``. ``key`` is its key under ``expect``."""

    key: str
    actual: Answer
    expected: Answer
    tolerance: Tolerance
    magnitudes: Sequence[Array | None] = ()


def _requirements(
    expected: Expected, reference: Reference, answer: Answer, tolerance: Tolerance
) -> Iterator[Finding | _Agreement]:
    """What the spec requires of outputs: agreements to compare, and findings for what needs no comparison."""
    first = next(iter(answer.values()), None)
    if expected.outputs is not None:
        yield _agreement("outputs", answer, expected.outputs, reference, tolerance)
    if expected.shape is not None:
        shapes = tuple(tuple(values.shape) for values in answer.values())
        message = f"shapes {_join_shapes(shapes)}, expected {_join_shapes(expected.shape)}"
        yield Finding("shape", shapes == expected.shape, message)
    if expected.range is not None and first is not None:
        yield _in_range("range", first, expected.range)
    if expected.formula is not None and first is not None:
        yield _formula_requirement(expected.formula, first, _expression_names(expected, reference, answer))
    if expected.equals is not None:
        yield _agreement("equals", answer, expected.equals, reference, tolerance)
    if expected.differs_from is not None:
        yield _agreement("differs_from", answer, expected.differs_from, reference, tolerance)


def _finding(requirement: Finding | _Agreement) -> Finding:
    """The finding of ``requirement``. It holds the first output that fails, or the first of all."""
    if isinstance(requirement, Finding):
        return requirement
    comparison = compare(
        requirement.actual, requirement.expected, requirement.tolerance, magnitudes=requirement.magnitudes
    )
    failing = (output for output in comparison.outputs if not output.passed)
    output = next(failing, next(iter(comparison.outputs), None))
    if requirement.key != "differs_from":
        return Finding(requirement.key, comparison.passed, comparison.message, output)
    same = comparison.passed
    message = "the outputs are the same as the other model's" if same else "the outputs differ, as expected"
    return Finding(requirement.key, not same, message, output)


def for_expressions(values: Array) -> Array:
    """``values`` as expressions use them: in float64, integers and bools unchanged and so exact."""
    return values if values.dtype.kind in "iub" else values.astype(np.float64)


def _expression_names(expected: Expected, reference: Reference, answer: Answer) -> dict[str, Any]:
    """The names an expression may use: arguments, parameters, inputs by label and as ``x``, the output as ``y``."""
    first = next(iter(reference.inputs.values()), None)
    x, y = None if first is None else for_expressions(first), for_expressions(next(iter(answer.values())))
    inputs = {label: for_expressions(values) for label, values in reference.inputs.items()}
    return {**expected.names, "x": x, "y": y, **inputs}


def _formula_requirement(formula: str, actual: Array, names: Mapping[str, Any]) -> Finding | _Agreement:
    values = np.asarray(compile_expression(formula).evaluate(names))
    if values.dtype != np.bool_:
        return _formula_agreement("formula", actual, values, formula)
    true = int(np.count_nonzero(values))
    return Finding("formula", 0 < true == values.size, f"{formula} holds for {true} of {values.size} values")


def _formula_agreement(key: str, actual: Array, values: Array, name: str) -> _Agreement:
    # The formula is evaluated in float64 with the spec's own constants; an implementation rounds at each step.
    rule = plain_rule(actual.dtype.name)
    return _Agreement(key, {name: actual}, {name: values.astype(actual.dtype)}, Tolerance(rule))


def _agreement(key: str, answer: Answer, outputs: Answer, reference: Reference, tolerance: Tolerance) -> _Agreement:
    magnitudes = reference.magnitudes
    if any(values.shape != outputs[name].shape for name, values in answer.items() if name in outputs):
        magnitudes = ()
    tolerance = without_calibration(tolerance, reference)
    if not magnitudes:  # nothing to scale by; outputs of other shapes fail before any value is compared
        rules = {index: Ulp(0) if isinstance(rule, Scaled) else rule for index, rule in tolerance.by_output.items()}
        tolerance = Tolerance(Ulp(0) if isinstance(tolerance.rule, Scaled) else tolerance.rule, rules)
    return _Agreement(key, answer, outputs, tolerance, magnitudes)


def _in_range(key: str, values: Array, bounds: tuple[float, float]) -> Finding:
    low, high = bounds
    exact = for_expressions(values)
    if not exact.size:
        return Finding(key, False, f"there are no values to compare with [{low:g}, {high:g}]")
    outside = int(np.count_nonzero(~((exact >= low) & (exact <= high))))
    smallest, largest = float(exact.min()), float(exact.max())
    message = f"{outside} of {exact.size} values {'is' if outside == 1 else 'are'} outside [{low:g}, {high:g}]"
    return Finding(key, outside == 0, f"{message}; smallest {smallest:.4g}, largest {largest:.4g}")


def _join_shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)
