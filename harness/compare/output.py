"""Compare one output with its reference: shape and dtype, then NaN and infinities, then the rule, then the metrics.

Text outputs, which some ONNX operators return, are compared by equality.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.calibrated import (
    Calibration,
    calibrate,
    explained_flips,
    inconclusive,
    inner_precision,
    plain_rule,
)
from harness.compare.decisions import WholeOutputJudgement, judge_whole_output
from harness.compare.inconclusive import NO_ELEMENTS, NO_FINITE_VALUE, inconclusive_reason
from harness.compare.metrics import ComparedValues, Scores
from harness.compare.numbers import (
    NO_POSITIONS,
    NumberFormat,
    Pair,
    compare_text,
    dtype_name,
    native_byte_order,
    number_format,
    split_nonfinite,
    values_are,
)
from harness.compare.rules import Allowance, allowance, rule_for
from harness.registry import plugins
from harness.result import OutputComparison
from harness.spec.language.tolerances import (
    AllOf,
    Calibrated,
    Close,
    Cosine,
    Decisions,
    Exact,
    OneRule,
    Rule,
    Sqnr,
    Tolerance,
    Ulp,
    rules_of,
)

Array = NDArray[Any]

STANDARD_METRICS = frozenset(
    {
        *("max_abs", "max_rel", "max_ulp", "mismatched", "worst", "least_rtol", "least_atol"),
        *("sqnr", "cosine", "rms", "reference_rms"),
    }
)


@dataclass(frozen=True, slots=True)
class OutputRequest:
    """Which output is compared, and how.

    ``magnitudes``, ``undefined``, ``float64`` and ``lower``, the reference's run in a lower precision, have the shape
    of the reference, or are None. ``at`` names the input shapes, where there are several. ``computes_in`` and
    ``flips`` are as in :class:`harness.model.answer.Reference`.
    """

    index: int
    name: str
    tolerance: Tolerance
    magnitudes: Array | None = None
    undefined: Array | None = None
    float64: Array | None = None
    at: str | None = None
    lower: Array | None = None
    computes_in: str | None = None
    flips: float = 0.0


@dataclass(frozen=True, slots=True)
class ComparedOutput:
    """The comparison of one output.

    ``notes`` are remarks for the reader that do not fail the output. ``compared`` counts the values that were
    compared, ``left_out`` those that were not because the layer leaves them undefined.
    """

    output: OutputComparison
    notes: tuple[str, ...] = ()
    compared: int = 0
    left_out: int = 0


def compare_output(request: OutputRequest, actual: Array, expected: Array) -> ComparedOutput:
    """Compare ``actual`` with ``expected``. Raises ``ValueError`` if ``request`` does not fit the reference."""
    actual, expected = native_byte_order(actual), native_byte_order(expected)
    _check_masks(request, expected.shape)
    output_format = number_format(expected.dtype)
    floating = output_format is not None and output_format.kind == "floating"
    rule = rule_for(request.tolerance, request.index, floating=floating, flips=request.flips > 0)
    problems = _form_problems(actual, expected)
    if problems or output_format is None:
        return ComparedOutput(_output_comparison(request, actual, rule, {"problem": "; ".join(problems)}))
    if output_format.kind == "text":
        return _compare_text_output(request, actual, expected, rule)
    return _compare_numbers(request, actual, expected, rule, output_format)


def _form_problems(actual: Array, expected: Array) -> tuple[str, ...]:
    """Problems with the shape and the dtype of one output, including a dtype that cannot be compared."""
    problems = []
    if actual.shape != expected.shape:
        problems.append(f"shape {actual.shape}, expected {expected.shape}")
    if actual.dtype != expected.dtype and dtype_name(actual.dtype) != dtype_name(expected.dtype):
        problems.append(f"dtype {dtype_name(actual.dtype)}, expected {dtype_name(expected.dtype)}")
    elif number_format(actual.dtype) is None:
        problems.append(
            f"dtype {dtype_name(actual.dtype)} cannot be compared; expected real numbers of at most 64 bits, or text"
        )
    return tuple(problems)


def _compare_numbers(
    request: OutputRequest, actual: Array, expected: Array, rule: Rule, output_format: NumberFormat
) -> ComparedOutput:
    defined = _defined_values(request, actual, expected, output_format)
    of, left_out = defined.actual.size, actual.size - defined.actual.size
    split = split_nonfinite(defined, actual.shape)
    pair = split.finite
    judged = [_judge(each, request, pair, actual, expected) for each in rules_of(rule)]
    rule = judged[0].rule if len(judged) == 1 else AllOf(tuple(each.rule for each in judged))
    strictest = max(judged, key=lambda each: np.count_nonzero(each.allowance.exceeded))
    compared = ComparedValues(
        pair,
        strictest.allowance,
        split.mismatches,
        actual.shape,
        _values_of_pair(request.float64, pair),
        _scores(rule, actual, expected),
    )
    measured = {name: metric.measure(compared) for name, metric in plugins("compare.metrics").items()}
    fields = {name: value for name, value in measured.items() if name in STANDARD_METRICS}
    fields["extra"] = {
        name: float(value) for name, value in measured.items() if name not in STANDARD_METRICS and value is not None
    }
    if fields["worst"] is not None:
        fields["actual_at_worst"] = _python_number(actual[fields["worst"]])
        fields["expected_at_worst"] = _python_number(expected[fields["worst"]])
    fields["decisions"] = next((each.whole.decisions for each in judged if each.whole and each.whole.decisions), None)
    problems = [*split.problems, *(problem for each in judged for problem in each.problems(pair, of, actual, expected))]
    fields["of"] = of
    fields["problem"] = "; ".join(problems) or None
    if not problems:
        reasons = [each.inconclusive(compared, _values_of_pair(request.magnitudes, pair)) for each in judged]
        fields["inconclusive"] = None if None in reasons else reasons[0]
    notes = tuple(_notes(request, pair, of, left_out))
    notes += tuple(f"{request.name}: {each.note}" for each in judged if each.note is not None)
    return ComparedOutput(_output_comparison(request, actual, rule, fields), notes, of, left_out)


@dataclass(frozen=True, slots=True)
class _JudgedRule:
    """One rule applied to one output. ``rule`` is the one that decided, which ``note`` explains if it is another."""

    rule: OneRule
    allowance: Allowance
    calibration: Calibration | None = None
    whole: WholeOutputJudgement | None = None
    note: str | None = None

    def problems(self, pair: Pair, of: int, actual: Array, expected: Array) -> Iterator[str]:
        """One sentence for each way in which the output breaks the rule."""
        if self.allowance.exceeded.any():
            finite = ComparedValues(pair, self.allowance, NO_POSITIONS, actual.shape)
            yield _difference_problem(finite, self.rule, of, actual, expected)
        if self.calibration is not None and not self.calibration.passed:
            yield self.calibration.problem
        if self.whole is not None and self.whole.problem is not None:
            yield self.whole.problem

    def inconclusive(self, compared: ComparedValues, magnitudes: Array | None) -> str | None:
        """Why a pass under this rule alone is inconclusive; None if it is not."""
        if 0 in compared.shape:
            return NO_ELEMENTS
        # A rule of a layer is about NaN and infinities too: their positions are the whole answer of many cases.
        if isinstance(self.rule, Calibrated | Close | Sqnr | Cosine) and not compared.pair.actual.size:
            return NO_FINITE_VALUE
        if self.whole is not None:
            return self.whole.inconclusive
        if self.calibration is not None:
            return inconclusive(self.calibration, compared.pair)
        values = ComparedValues(compared.pair, self.allowance, compared.nonfinite_mismatches, compared.shape)
        return inconclusive_reason(self.rule, values, magnitudes)


def _judge(rule: OneRule, request: OutputRequest, pair: Pair, actual: Array, expected: Array) -> _JudgedRule:
    match rule:
        case Calibrated() if pair.format.kind != "floating":
            note = explained_flips(pair, _values_of_pair(request.float64, pair), request.flips, rule)
            largest = 0 if note is None else np.iinfo(np.uint64).max
            return _JudgedRule(rule if note else Exact(), Allowance(pair.ulps, np.uint64(largest)), note=note)
        case Calibrated():
            inner = inner_precision(request.computes_in, dtype_name(expected.dtype))
            rule = replace(rule, precision=rule.precision or inner)
            calibration, plain_because = _calibration(request, pair, rule)
            if calibration is not None:
                return _JudgedRule(rule, calibration.allowance, calibration)
            plain = plain_rule(rule.precision or dtype_name(actual.dtype))
            note = f"compared with the reference by {plain}, because {plain_because}"
            return _JudgedRule(plain, allowance(plain, pair), note=note)
        case Sqnr() | Cosine() | Decisions():
            whole = judge_whole_output(rule, pair, actual, expected, request.float64)
            return _JudgedRule(rule, allowance(rule, pair), whole=whole)
        case _:
            return _JudgedRule(rule, allowance(rule, pair, _values_of_pair(request.magnitudes, pair)))


def _scores(rule: Rule, actual: Array, expected: Array) -> Scores | None:
    """The outputs as scores, where a rule says that they are used by ``argmax``."""
    for each in rules_of(rule):
        if isinstance(each, Decisions) and each.by == "argmax" and -expected.ndim <= each.axis < expected.ndim:
            return Scores(actual, expected, each.axis)
    return None


def _calibration(request: OutputRequest, pair: Pair, rule: Calibrated) -> tuple[Calibration | None, str | None]:
    """The calibration, or the reason why the plain rule applies in its place."""
    float64 = _values_of_pair(request.float64, pair)
    if float64 is None:
        return None, "there is no float64 reference"
    lower = None if rule.precision is None else _values_of_pair(request.lower, pair)
    if lower is None and rule.precision not in {None, request.computes_in}:
        return None, f"the reference does not run in {rule.precision}"
    result = calibrate(pair, float64, rule, rule.precision or dtype_name(pair.expected.dtype), lower)
    return (None, result) if isinstance(result, str) else (result, None)


def _defined_values(request: OutputRequest, actual: Array, expected: Array, output_format: NumberFormat) -> Pair:
    """The values that the layer defines, NaN and infinities included."""
    if request.undefined is None or not request.undefined.any():
        return Pair(actual.reshape(-1), expected.reshape(-1), output_format)
    positions = np.flatnonzero(~request.undefined)
    return Pair(actual.reshape(-1)[positions], expected.reshape(-1)[positions], output_format, positions)


def _values_of_pair(magnitudes: Array | None, pair: Pair) -> Array | None:
    if magnitudes is None:
        return None
    flat = np.asarray(magnitudes, dtype=np.float64).reshape(-1)
    return flat if pair.positions is None else flat[pair.positions]


def _difference_problem(finite: ComparedValues, rule: Rule, of: int, actual: Array, expected: Array) -> str:
    """The sentence about the finite values that differ by more than the tolerance, with the worst of them."""
    metrics = plugins("compare.metrics")
    count, worst = metrics["mismatched"].measure(finite), metrics["worst"].measure(finite)
    one, other = actual[worst], expected[worst]
    error = _error(Pair(np.atleast_1d(one), np.atleast_1d(other), finite.pair.format), rule)
    differ = values_are(count, of, "differs", "differ")
    place = f"; worst at {list(worst)}: " if worst else ": "
    return (
        f"{differ} by more than the tolerance{place}{_short(one)}, expected {_short(other)} "
        f"({error}); allowed: {'no difference' if isinstance(rule, Exact) else rule}"
    )


def _error(value: Pair, rule: Rule) -> str:
    """How far one value is from its reference, in the unit that says most: ``25 % off``, ``off by 1.192e-07, 1 ulp``.

    ULP are added where the rule counts them, and where the two values read the same at four digits.
    """
    distance, relative, ulps = float(value.distance[0]), value.max_relative, int(value.ulps[0])
    if value.format.kind == "integer":
        return f"off by {ulps}"
    if 1e-3 <= relative < 9.99:
        return f"{100 * relative:.3g} % off" + (f", {ulps:.4g} ulp" if isinstance(rule, Ulp) else "")
    if not math.isfinite(distance):
        return f"{ulps:.4g} ulp off"
    return f"off by {distance:.4g}" + (f", {ulps:.4g} ulp" if isinstance(rule, Ulp) or relative < 1e-3 else "")


def _short(value: Any) -> str:
    """A value for a message: integers in full, floats with at most four significant digits."""
    number = _python_number(value)
    return str(number) if isinstance(number, int) else f"{number:.4g}"


def _notes(request: OutputRequest, pair: Pair, of: int, left_out: int) -> list[str]:
    notes = []
    if count := pair.zero_sign_differences:
        notes.append(f"the sign of zero differs in {count} of {of} values, which counts as equal")
    if left_out:
        are, were = values_are(left_out, of + left_out, "is", "are"), "was" if left_out == 1 else "were"
        notes.append(f"{are} undefined by the layer and {were} not compared")
    if not of and not left_out:
        notes.append("the output has no elements; only shape and dtype were compared")
    elif of and not pair.actual.size:
        notes.append("no value is finite; only the positions of NaN and infinities were compared")
    return [f"{request.name}: {note}" for note in notes]


def _compare_text_output(request: OutputRequest, actual: Array, expected: Array, rule: Rule) -> ComparedOutput:
    problem, different = compare_text(actual, expected)
    fields: dict[str, Any] = {"mismatched": different.size, "of": actual.size, "problem": problem}
    if not actual.size:
        fields["inconclusive"] = NO_ELEMENTS
    if different.size:
        fields["worst"] = tuple(int(i) for i in np.unravel_index(different[0], actual.shape))
    return ComparedOutput(_output_comparison(request, actual, rule, fields), compared=actual.size)


def _output_comparison(
    request: OutputRequest, actual: Array, rule: Rule, fields: Mapping[str, Any]
) -> OutputComparison:
    return OutputComparison(
        index=request.index,
        name=request.name,
        shape=actual.shape,
        dtype=dtype_name(actual.dtype),
        tolerance=str(rule),
        at=request.at,
        **fields,
    )


def _check_masks(request: OutputRequest, shape: tuple[int, ...]) -> None:
    for field in ("magnitudes", "undefined", "float64", "lower"):
        array = getattr(request, field)
        if array is not None and array.shape != shape:
            raise ValueError(f"{request.name}: {field} has shape {array.shape}, the reference has shape {shape}")
    if request.undefined is not None and request.undefined.dtype != np.bool_:
        raise ValueError(f"{request.name}: undefined has dtype {request.undefined.dtype}, it must be bool")


def _python_number(value: Any) -> int | float:
    """A scalar of any dtype as a Python number; a bool as 0 or 1."""
    number = value.item() if hasattr(value, "item") else value
    return int(number) if isinstance(number, int) else float(number)
