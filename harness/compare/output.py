"""Text outputs, which some ONNX operators give: equal or not.

One output held against its reference: form, then NaN and infinities, then the rule, then the metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.inconclusive import blindness
from harness.compare.metrics import Judged
from harness.compare.numbers import NumberFormat, Pair, dtype_name, number_format
from harness.compare.rules import allowance, rule_for
from harness.compare.structure import Specials, specials, wrong_form
from harness.registry import plugins
from harness.result import OutputComparison
from harness.spec.language.tolerances import Rule, Tolerance

Array = NDArray[Any]


def wrong_text(actual: Array, expected: Array) -> tuple[str | None, NDArray[np.intp]]:
    """What is wrong, in one sentence or None, and the flat indices at which two arrays of one shape differ."""
    one, other = actual.reshape(-1).astype(object), expected.reshape(-1).astype(object)
    for values in (one, other):
        if not all(isinstance(value, str | bytes) for value in values):
            return "dtype object holds values that are not text; text would be compared", np.arange(one.size)
    unequal = np.flatnonzero(one != other)
    if not unequal.size:
        return None, unequal
    first = int(unequal[0])
    place = tuple(int(at) for at in np.unravel_index(first, actual.shape))
    said = f"{one[first]!r} at {place}, expected {other[first]!r}; {unequal.size} of {one.size} elements"
    return said, unequal


STANDARD = frozenset({"max_abs", "max_rel", "max_ulp", "mismatched", "worst", "least_rtol", "least_atol"})
_NOWHERE: NDArray[np.intp] = np.empty(0, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one output is held to, and where it was asked.

    ``magnitudes`` and ``undefined`` have the shape of the reference, or are None.
    """

    index: int
    name: str
    tolerance: Tolerance
    magnitudes: Array | None = None
    undefined: Array | None = None
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What came of it.

    ``notes`` are what the reader should know although the output may pass. ``compared`` elements were looked at and
    ``left_out`` were not, since the layer does not define them.
    """

    output: OutputComparison
    notes: tuple[str, ...] = ()
    compared: int = 0
    left_out: int = 0


def hold(asked: Asked, actual: Array, expected: Array) -> Held:
    """Hold ``actual`` against ``expected``. Raises ``ValueError`` where ``asked`` does not fit the reference."""
    actual, expected = _native(actual), _native(expected)
    _fits(asked, expected.shape)
    form = number_format(expected.dtype)
    rule = rule_for(asked.tolerance, asked.index, floating=form is not None and form.kind == "floating")
    wrong = wrong_form(actual, expected)
    if wrong or form is None:
        return Held(_told(asked, actual, rule, {"problem": "; ".join(wrong)}))
    if form.kind == "text":
        return _text(asked, actual, expected, rule)
    return _numbers(asked, actual, expected, rule, form)


def _numbers(asked: Asked, actual: Array, expected: Array, rule: Rule, form: NumberFormat) -> Held:
    whole = _defined(asked, actual, expected, form)
    of, left_out = whole.actual.size, actual.size - whole.actual.size
    found = _specials(whole, actual.shape)
    pair = found.finite
    magnitudes = _of_pair(asked.magnitudes, pair)
    judged = Judged(pair, allowance(rule, pair, magnitudes), found.strays, actual.shape)
    measured = {name: metric.measure(judged) for name, metric in plugins("compare.metrics").items()}
    values = {name: value for name, value in measured.items() if name in STANDARD}
    values["extra"] = {
        name: float(measured[name]) for name in measured if name not in STANDARD and measured[name] is not None
    }
    if values["worst"] is not None:
        values["actual_at_worst"] = _plain(actual[values["worst"]])
        values["expected_at_worst"] = _plain(expected[values["worst"]])
    problems = [*found.problems]
    if values["mismatched"] > found.strays.size:
        problems.append(_outside(judged, rule, values["mismatched"] - found.strays.size, of, actual, expected))
    values["of"] = of
    values["problem"] = "; ".join(problems) or None
    if not problems:
        values["blind"] = blindness(rule, judged, magnitudes)
    return Held(_told(asked, actual, rule, values), tuple(_notes(asked, pair, of, left_out)), of, left_out)


def _defined(asked: Asked, actual: Array, expected: Array, form: NumberFormat) -> Pair:
    """The elements that the layer defines, of whatever value."""
    if asked.undefined is None or not asked.undefined.any():
        return Pair(actual.reshape(-1), expected.reshape(-1), form)
    positions = np.flatnonzero(~asked.undefined)
    return Pair(actual.reshape(-1)[positions], expected.reshape(-1)[positions], form, positions)


def _specials(whole: Pair, shape: tuple[int, ...]) -> Specials:
    # One reduction tells the common case: any NaN, infinity or overflow on either side makes the maximum not finite.
    if whole.form.kind == "integer" or not whole.distance.size or np.isfinite(whole.distance.max()):
        return Specials(whole, _NOWHERE, ())
    return specials(whole, shape)


def _of_pair(magnitudes: Array | None, pair: Pair) -> Array | None:
    if magnitudes is None:
        return None
    flat = np.asarray(magnitudes, dtype=np.float64).reshape(-1)
    return flat if pair.positions is None else flat[pair.positions]


def _outside(judged: Judged, rule: Rule, count: int, of: int, actual: Array, expected: Array) -> str:
    """The sentence about the numbers that are outside the tolerance, with those of the worst."""
    pair = judged.pair
    worst = plugins("compare.metrics")["worst"].measure(Judged(pair, judged.allowance, _NOWHERE, judged.shape))
    one, other = actual[worst], expected[worst]
    here = Pair(np.atleast_1d(one), np.atleast_1d(other), pair.form)
    apart = [f"{here.distance[0]:.4g} absolute"]
    if pair.form.kind == "floating":
        apart += [f"{here.most_relative:.4g} relative", f"{int(here.steps[0])} ulp"]
    verb = "is" if count == 1 else "are"
    return (
        f"{count} of {of} elements {verb} outside {rule}; the worst, at {worst}, is {one} where {other} is expected, "
        f"off by {', '.join(apart)}"
    )


def _notes(asked: Asked, pair: Pair, of: int, left_out: int) -> list[str]:
    notes = []
    if signs := pair.signs_of_zero:
        notes.append(f"the sign of zero differs at {signs} of {of} elements")
    if left_out:
        notes.append(f"{left_out} of {of + left_out} elements are undefined by the layer and were not compared")
    if not of and not left_out:
        notes.append("there are no elements; only shape and dtype were compared")
    elif of and not pair.actual.size:
        notes.append("there is no finite number; only the places of NaN and infinities were compared")
    return [f"{asked.name}: {note}" for note in notes]


def _text(asked: Asked, actual: Array, expected: Array, rule: Rule) -> Held:
    said, unequal = wrong_text(actual, expected)
    values: dict[str, Any] = {"mismatched": unequal.size, "of": actual.size, "problem": said}
    if unequal.size:
        values["worst"] = tuple(int(at) for at in np.unravel_index(unequal[0], actual.shape))
    return Held(_told(asked, actual, rule, values), compared=actual.size)


def _told(asked: Asked, actual: Array, rule: Rule, values: Mapping[str, Any]) -> OutputComparison:
    return OutputComparison(
        index=asked.index,
        name=asked.name,
        shape=actual.shape,
        dtype=dtype_name(actual.dtype),
        tolerance=str(rule),
        at=asked.at,
        **values,
    )


def _native(array: Array) -> Array:
    """The array in this machine's byte order; a Python number or a NumPy scalar as an array of no axes."""
    array = np.asarray(array)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _fits(asked: Asked, shape: tuple[int, ...]) -> None:
    for what, array in (("magnitudes", asked.magnitudes), ("undefined", asked.undefined)):
        if array is not None and array.shape != shape:
            raise ValueError(f"{asked.name}: {what} have shape {array.shape}; the reference has {shape}")
    if asked.undefined is not None and asked.undefined.dtype != np.bool_:
        raise ValueError(f"{asked.name}: undefined has dtype {asked.undefined.dtype}; bool would be right")


def _plain(value: Any) -> int | float:
    """A scalar of any dtype as Python's own number; a bool as 0 or 1."""
    number = value.item() if hasattr(value, "item") else value
    return int(number) if isinstance(number, int) else float(number)
