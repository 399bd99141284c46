"""Compare one output with its reference: shape and dtype, then NaN and infinities, then the rule, then the metrics.

Text outputs, which some ONNX operators return, are compared by equality.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.calibrated import Calibration, calibrate, inconclusive, plain_rule
from harness.compare.inconclusive import NO_ELEMENTS, inconclusive_reason
from harness.compare.metrics import ComparedValues
from harness.compare.numbers import NumberFormat, Pair, dtype_name, number_format
from harness.compare.rules import allowance, rule_for
from harness.registry import plugins
from harness.result import OutputComparison
from harness.spec.language.tolerances import Calibrated, Exact, Rule, Tolerance, Ulp

Array = NDArray[Any]

STANDARD_METRICS = frozenset({"max_abs", "max_rel", "max_ulp", "mismatched", "worst", "least_rtol", "least_atol"})
_VALUE_CLASSES = ("finite", "NaN", "+inf", "-inf")
_NO_POSITIONS: NDArray[np.intp] = np.empty(0, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class OutputRequest:
    """Which output is compared, and how.

    ``magnitudes``, ``undefined`` and ``float64`` have the shape of the reference, or are None. ``at`` names the input
    shapes, where there are several.
    """

    index: int
    name: str
    tolerance: Tolerance
    magnitudes: Array | None = None
    undefined: Array | None = None
    float64: Array | None = None
    at: str | None = None


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


@dataclass(frozen=True, slots=True)
class _NonfiniteSplit:
    """A pair of arrays split into its finite values and the positions where NaN or infinities disagree.

    ``finite`` is the pair of the values that are finite on both sides. ``mismatches`` are the flat indices in the
    output of the values whose class (finite, NaN, +inf, -inf) differs. ``problems`` has one sentence for each
    combination of classes.
    """

    finite: Pair
    mismatches: NDArray[np.intp]
    problems: tuple[str, ...]


def compare_output(request: OutputRequest, actual: Array, expected: Array) -> ComparedOutput:
    """Compare ``actual`` with ``expected``. Raises ``ValueError`` if ``request`` does not fit the reference."""
    actual, expected = _native_byte_order(actual), _native_byte_order(expected)
    _check_masks(request, expected.shape)
    output_format = number_format(expected.dtype)
    floating = output_format is not None and output_format.kind == "floating"
    rule = rule_for(request.tolerance, request.index, floating=floating)
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
    split = _split(defined, actual.shape)
    pair = split.finite
    magnitudes = _values_of_pair(request.magnitudes, pair)
    calibration, plain_because = _calibration(request, pair, rule)
    if isinstance(rule, Calibrated) and calibration is None:
        rule = plain_rule(dtype_name(actual.dtype))
    allowed = allowance(rule, pair, magnitudes) if calibration is None else calibration.allowance
    compared = ComparedValues(pair, allowed, split.mismatches, actual.shape)
    measured = {name: metric.measure(compared) for name, metric in plugins("compare.metrics").items()}
    fields = {name: value for name, value in measured.items() if name in STANDARD_METRICS}
    fields["extra"] = {
        name: float(value) for name, value in measured.items() if name not in STANDARD_METRICS and value is not None
    }
    if fields["worst"] is not None:
        fields["actual_at_worst"] = _python_number(actual[fields["worst"]])
        fields["expected_at_worst"] = _python_number(expected[fields["worst"]])
    problems = [*split.problems]
    if calibration is not None:
        fields |= {"rms": calibration.rms, "reference_rms": calibration.reference_rms}
    if fields["mismatched"] > split.mismatches.size:
        problems.append(_difference_problem(compared, rule, of, actual, expected))
    if calibration is not None and not calibration.passed:
        problems.append(calibration.problem)
    fields["of"] = of
    fields["problem"] = "; ".join(problems) or None
    if not problems and calibration is None:
        fields["blind"] = inconclusive_reason(rule, compared, magnitudes)
    elif calibration is not None and not problems:
        fields["blind"] = inconclusive(calibration, pair)
    notes = tuple(_notes(request, pair, of, left_out))
    if plain_because is not None:
        notes = (*notes, f"{request.name}: compared with the reference by {rule}, because {plain_because}")
    return ComparedOutput(_output_comparison(request, actual, rule, fields), notes, of, left_out)


def _calibration(request: OutputRequest, pair: Pair, rule: Rule) -> tuple[Calibration | None, str | None]:
    """The calibration under a ``Calibrated`` rule, or the reason why the plain rule applies in its place."""
    if not isinstance(rule, Calibrated):
        return None, None
    float64 = _values_of_pair(request.float64, pair)
    if float64 is None:
        return None, "there is no float64 reference"
    result = calibrate(pair, float64, rule.m, dtype_name(pair.expected.dtype))
    return (None, result) if isinstance(result, str) else (result, None)


def _defined_values(request: OutputRequest, actual: Array, expected: Array, output_format: NumberFormat) -> Pair:
    """The values that the layer defines, NaN and infinities included."""
    if request.undefined is None or not request.undefined.any():
        return Pair(actual.reshape(-1), expected.reshape(-1), output_format)
    positions = np.flatnonzero(~request.undefined)
    return Pair(actual.reshape(-1)[positions], expected.reshape(-1)[positions], output_format, positions)


def _split(pair: Pair, shape: tuple[int, ...]) -> _NonfiniteSplit:
    # One reduction detects the common case: any NaN, infinity or overflow on either side makes the maximum not finite.
    if pair.format.kind == "integer" or not pair.distance.size or np.isfinite(pair.distance.max()):
        return _NonfiniteSplit(pair, _NO_POSITIONS, ())
    return _split_nonfinite(pair, shape)


def _split_nonfinite(pair: Pair, shape: tuple[int, ...]) -> _NonfiniteSplit:
    """Split ``pair``, which may hold any value, into finite values and mismatches of NaN and infinities."""
    actual_class, expected_class = _class_indices(pair.actual), _class_indices(pair.expected)
    positions = np.arange(actual_class.size, dtype=np.intp) if pair.positions is None else pair.positions
    wrong = actual_class != expected_class
    finite = (actual_class == 0) & (expected_class == 0)
    actual, expected = pair.actual[finite], pair.expected[finite]
    # Two finite float64 whose difference overflows are compared in halves.
    overflow = ~np.isfinite(pair.distance[finite])
    unit = np.where(overflow, 0.5, 1.0) if overflow.any() else 1.0
    problems = _class_problems(actual_class[wrong], expected_class[wrong], positions[wrong], shape, wrong.size)
    return _NonfiniteSplit(
        Pair(actual, expected, pair.format, positions[finite], unit),
        positions[wrong],
        tuple(problems) if wrong.any() else (),
    )


def _class_indices(array: Array) -> NDArray[np.int8]:
    """The class of each value, as its index in :data:`_VALUE_CLASSES`."""
    widened = array.astype(np.float64)
    return np.select([np.isnan(widened), np.isposinf(widened), np.isneginf(widened)], [1, 2, 3], 0).astype(np.int8)


def _class_problems(
    actual: NDArray[np.int8], expected: NDArray[np.int8], positions: NDArray[np.intp], shape: tuple[int, ...], of: int
) -> Iterator[str]:
    for actual_class, expected_class in sorted(set(zip(actual.tolist(), expected.tolist(), strict=True))):
        where = positions[(actual == actual_class) & (expected == expected_class)]
        first = [int(i) for i in np.unravel_index(where[0], shape)]
        are = _values_are(where.size, of, "is", "are")
        yield f"{are} {_VALUE_CLASSES[actual_class]}, expected {_VALUE_CLASSES[expected_class]}; first at {first}"


def _values_of_pair(magnitudes: Array | None, pair: Pair) -> Array | None:
    if magnitudes is None:
        return None
    flat = np.asarray(magnitudes, dtype=np.float64).reshape(-1)
    return flat if pair.positions is None else flat[pair.positions]


def _difference_problem(compared: ComparedValues, rule: Rule, of: int, actual: Array, expected: Array) -> str:
    """The sentence about the values that differ by more than the tolerance, with the worst of them."""
    finite = ComparedValues(compared.pair, compared.allowance, _NO_POSITIONS, compared.shape)
    metrics = plugins("compare.metrics")
    count, worst = metrics["mismatched"].measure(finite), metrics["worst"].measure(finite)
    one, other = actual[worst], expected[worst]
    error = _error(Pair(np.atleast_1d(one), np.atleast_1d(other), compared.pair.format), rule)
    differ = _values_are(count, of, "differs", "differ")
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
        are, were = _values_are(left_out, of + left_out, "is", "are"), "was" if left_out == 1 else "were"
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
        fields["blind"] = NO_ELEMENTS
    if different.size:
        fields["worst"] = tuple(int(i) for i in np.unravel_index(different[0], actual.shape))
    return ComparedOutput(_output_comparison(request, actual, rule, fields), compared=actual.size)


def compare_text(actual: Array, expected: Array) -> tuple[str | None, NDArray[np.intp]]:
    """The problem in one sentence or None, and the flat indices at which two arrays of one shape differ."""
    actual_flat, expected_flat = actual.reshape(-1).astype(object), expected.reshape(-1).astype(object)
    for values in (actual_flat, expected_flat):
        if not all(isinstance(value, str | bytes) for value in values):
            return "dtype object holds values that are not text; only text can be compared", np.arange(values.size)
    different = np.flatnonzero(actual_flat != expected_flat)
    if not different.size:
        return None, different
    first = int(different[0])
    index = [int(i) for i in np.unravel_index(first, actual.shape)]
    differ = _values_are(different.size, actual_flat.size, "differs", "differ")
    return f"{differ}; first at {index}: {actual_flat[first]!r}, expected {expected_flat[first]!r}", different


def _values_are(count: int, of: int, singular: str, plural: str) -> str:
    """The beginning of a sentence about some values: ``1 of 4 values is``, ``3 of 4 values are``."""
    return f"{count} of {of} value{'' if of == 1 else 's'} {singular if count == 1 else plural}"


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


def _native_byte_order(array: Array) -> Array:
    """The array in this machine's byte order. A Python number or a NumPy scalar becomes an array without axes."""
    array = np.asarray(array)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _check_masks(request: OutputRequest, shape: tuple[int, ...]) -> None:
    for field in ("magnitudes", "undefined", "float64"):
        array = getattr(request, field)
        if array is not None and array.shape != shape:
            raise ValueError(f"{request.name}: {field} has shape {array.shape}, the reference has shape {shape}")
    if request.undefined is not None and request.undefined.dtype != np.bool_:
        raise ValueError(f"{request.name}: undefined has dtype {request.undefined.dtype}, it must be bool")


def _python_number(value: Any) -> int | float:
    """A scalar of any dtype as a Python number; a bool as 0 or 1."""
    number = value.item() if hasattr(value, "item") else value
    return int(number) if isinstance(number, int) else float(number)
