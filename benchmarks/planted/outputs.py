"""Faults in a runtime's outputs: the returned values are not the computed ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.exact import FLOATING, allowed_error, rule_of
from harness.model.answer import Reference
from harness.spec.language.tolerances import Close, Scaled, Tolerance

Array = NDArray[Any]
Outputs = dict[str, Array]
Alter = Callable[[Outputs, Mapping[str, Array], Callable[[Mapping[str, Array]], Outputs]], Outputs]
"""Takes the outputs, their inputs, and a function that runs other inputs; returns the wrong outputs."""


@dataclass(frozen=True, slots=True)
class OutputFault:
    """One way to change the outputs."""

    kind: str
    alter: Alter


def unchanged(answer: Outputs, _inputs: Mapping[str, Array], _ask: object) -> Outputs:
    """Return the outputs unchanged."""
    return answer


def output_faults(reference: Reference, tolerance: Tolerance, rng: np.random.Generator) -> Iterator[OutputFault]:
    """Yield a fault of every kind that applies to the case's outputs, each at a random place."""
    names = list(reference.eager)
    name = names[int(rng.integers(len(names)))]
    yield from _of_one_element(reference, tolerance, name, rng)
    yield from _of_one_output(reference.eager[name], name)
    yield from _of_the_set(names, name)
    if any(values.size > 1 for values in reference.inputs.values()):
        yield OutputFault("answer: stale, for other inputs", lambda _answer, inputs, ask: ask(_others(inputs)))


def _of_one_element(
    reference: Reference, tolerance: Tolerance, name: str, rng: np.random.Generator
) -> Iterator[OutputFault]:
    expected = reference.eager[name]
    if not expected.size:
        return
    at = int(rng.integers(expected.size))

    def put(kind: str, change: Callable[[Any], Any]) -> OutputFault:
        def alter(answer: Outputs, _inputs: Mapping[str, Array], _ask: object) -> Outputs:
            wrong = np.array(answer[name], order="C")
            place = at % max(wrong.size, 1)
            with np.errstate(all="ignore"):
                wrong.flat[place] = change(wrong.flat[place])
            return {**answer, name: wrong}

        return OutputFault(f"answer: {kind}", alter)

    if expected.dtype.name not in FLOATING:
        yield put("one integer off by one", lambda value: value ^ True if expected.dtype == np.bool_ else value + 1)
        yield put("one integer is 0", lambda value: value * 0)
        return
    up, most = np.asarray(np.inf, expected.dtype), int(rng.integers(2, 40))
    yield put("NaN in one place", lambda _value: math.nan)
    yield put("infinity in one place", lambda _value: -math.inf)
    yield put("one element off by one ULP", lambda value: np.nextafter(value, up))
    yield put("one element off by a few ULP", lambda value: _stepped(value, up, most))
    yield put("one element off by a thousandth", lambda value: value * type(value)(1.001))
    yield put("one element off by a tenth", lambda value: value * type(value)(1.1))
    yield put("one element of the other sign", lambda value: -value)
    yield put("one element not written, 0", lambda value: value * 0)
    index = list(reference.eager).index(name)
    rule = rule_of(tolerance, index, expected)
    if isinstance(rule, Close | Scaled) and math.isfinite(float(expected.flat[at])):
        magnitudes = reference.magnitudes[index] if index < len(reference.magnitudes) else None
        allowed, centre = allowed_error(rule, expected, magnitudes, at), Fraction(float(expected.flat[at]))
        for kind, part in (("just inside", Fraction(49, 50)), ("just outside", Fraction(51, 50))):
            yield put(f"one element {kind} the tolerance", partial(_nearest, centre + part * allowed))


def _of_one_output(expected: Array, name: str) -> Iterator[OutputFault]:
    """One output in another shape or dtype, or with all elements wrong."""

    def whole(kind: str, change: Callable[[Array], Array]) -> OutputFault:
        return OutputFault(f"answer: {kind}", lambda answer, _inputs, _ask: {**answer, name: change(answer[name])})

    yield whole("shape with an axis more", lambda values: values[None])
    if expected.ndim != 1:
        yield whole("shape flattened", lambda values: values.reshape(-1))
    if expected.ndim:
        yield whole("last slice missing", lambda values: values[..., :-1])
    if expected.ndim > 1:
        yield whole("axes transposed", lambda values: np.swapaxes(values, -1, -2).copy())
        yield whole("batch in reverse", lambda values: values[::-1].copy())
        yield whole("last channel not written", _without_last)
    if expected.size > 1:
        yield whole("elements moved by one", lambda values: np.roll(values.reshape(-1), 1).reshape(values.shape))
    yield whole("all zeros", np.zeros_like)
    others = ("float64", "float16", "int64") if expected.dtype.name == "float32" else ("float32",)
    for dtype in others:
        yield whole(f"dtype {dtype}", partial(_cast, dtype=dtype))
    if expected.dtype.name == "float32":
        yield whole("computed in float16", lambda values: _cast(_cast(values, "float16"), "float32"))


def _of_the_set(names: list[str], name: str) -> Iterator[OutputFault]:
    """Outputs that are missing, added, renamed, reordered or exchanged."""

    def several(kind: str, change: Callable[[Outputs], Outputs]) -> OutputFault:
        return OutputFault(f"answer: {kind}", lambda answer, _inputs, _ask: change(answer))

    yield several("an output missing", lambda answer: {key: value for key, value in answer.items() if key != name})
    yield several("no output at all", lambda _answer: {})
    yield several("an output too many", lambda answer: {**answer, "more": answer[name]})
    yield several("an output renamed", lambda answer: {f"{key}_": value for key, value in answer.items()})
    if len(names) > 1:
        yield several("outputs in another order", lambda answer: dict(reversed(answer.items())))
        yield several(
            "values exchanged between outputs",
            lambda answer: dict(zip(answer, reversed(answer.values()), strict=True)),
        )


def _stepped(value: Any, towards: Array, steps: int) -> Any:
    for _ in range(steps):
        value = np.nextafter(value, towards)
    return value


def _nearest(value: Fraction, _was: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _without_last(values: Array) -> Array:
    wrong = values.copy()
    wrong[:, -1:] = 0
    return wrong


def _cast(values: Array, dtype: str) -> Array:
    with np.errstate(all="ignore"):
        return values.astype(dtype)


def _others(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The same values in reverse: other outputs, but no index outside its plane."""
    return {label: values.reshape(-1)[::-1].reshape(values.shape).copy() for label, values in inputs.items()}
