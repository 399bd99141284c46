"""Holds an answer against what the spec says must be, beyond agreement with eager torch. Arrays alone: no torch.

What a spec says under ``expect``, with its tensors filled and its other models built and asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.verdict import Comparison, compare
from harness.model.answer import Reference
from harness.model.build import Subject, answers, arguments, module_of
from harness.model.tensors import to_numpy
from harness.result import Finding
from harness.spec.language.case import Case, LayerModel, WeightedModel
from harness.spec.language.expressions import compile_expression
from harness.spec.language.fills import array
from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Tolerance, Ulp

Array = NDArray[Any]
Outputs = Mapping[str, Array]

# A closed form is evaluated in float64 with the spec's own constants, so an implementation that
# rounds at each step is held to the defaults of torch.testing.assert_close, not to equality.
FORMULA: Mapping[str, Close] = {
    "float16": Close(1e-3, 1e-5),
    "bfloat16": Close(1.6e-2, 1e-5),
    "float32": Close(1.3e-6, 1e-5),
    "float64": Close(1e-7, 1e-7),
}


@dataclass(frozen=True)
class Expected:
    """What ``expect`` comes to, as :class:`harness.spec.language.case.Expectation` has it, with every tensor made.

    ``outputs`` must be equalled; ``equals`` and ``differs_from`` are what the other model answers.
    ``names`` are the arguments and parameters that an expression may speak of; ``first`` is the first input's label.
    """

    first: str | None = None
    outputs: Outputs | None = None
    shape: tuple[tuple[int, ...], ...] | None = None
    range: tuple[float, float] | None = None
    formula: str | None = None
    gradient: Mapping[str, str] = field(default_factory=dict)
    gradient_range: tuple[float, float] | None = None
    equals: Outputs | None = None
    differs_from: Outputs | None = None
    names: Mapping[str, Any] = field(default_factory=dict)


def hold(expect: Expected, reference: Reference, answer: Outputs, tolerance: Tolerance) -> Iterator[Finding]:
    """One finding for each key under ``expect`` that speaks of outputs."""
    first = next(iter(answer.values()), None)
    if expect.outputs is not None:
        yield _same("outputs", answer, expect.outputs, tolerance, reference)
    if expect.shape is not None:
        shapes = tuple(tuple(item.shape) for item in answer.values())
        yield Finding("shape", shapes == expect.shape, f"shapes {_shapes(shapes)}, expected {_shapes(expect.shape)}")
    if expect.range is not None and first is not None:
        yield _within("range", first, expect.range)
    if expect.formula is not None and first is not None:
        yield _formula(expect.formula, first, _names(expect, reference, answer))
    for what, other in (("equals", expect.equals), ("differs_from", expect.differs_from)):
        if other is not None:
            same = _same(what, answer, other, tolerance, reference)
            yield same if what == "equals" else _opposite(same)


def hold_gradients(
    expect: Expected, reference: Reference, answer: Outputs, gradients: Mapping[str, Array]
) -> Iterator[Finding]:
    """One finding for each gradient that the spec gives in closed form, and for the range of the first input's."""
    known = _names(expect, reference, answer)
    for name, text in expect.gradient.items():
        wanted = np.asarray(compile_expression(text).evaluate(known), dtype=np.float64)
        actual = gradients[name]
        yield _same_values("gradient", actual, np.broadcast_to(wanted, actual.shape), f"gradient by {name}")
    if expect.gradient_range is not None and expect.first is not None:
        yield _within("gradient_range", gradients[expect.first], expect.gradient_range)


def wide(values: Array) -> Array:
    """``values`` in float64, as expressions are evaluated; whole numbers stay exact."""
    return values if values.dtype.kind in "iub" else values.astype(np.float64)


def _names(expect: Expected, reference: Reference, answer: Outputs) -> dict[str, Any]:
    """What an expression may speak of: arguments, parameters, inputs by label and as ``x``, the output as ``y``."""
    first = next(iter(reference.inputs.values()), None)
    own = {"x": None if first is None else wide(first), "y": wide(next(iter(answer.values())))}
    return {**expect.names, **own, **{label: wide(values) for label, values in reference.inputs.items()}}


def _formula(text: str, actual: Array, known: Mapping[str, Any]) -> Finding:
    wanted = np.asarray(compile_expression(text).evaluate(known))
    if wanted.dtype == np.bool_:
        broken = int(np.count_nonzero(~wanted))
        said = "holds everywhere" if not broken else f"is broken at {broken} of {wanted.size} elements"
        return Finding("formula", broken == 0 and wanted.size > 0, f"{text} {said}")
    return _same_values("formula", actual, wanted, text)


def _same_values(what: str, actual: Array, wanted: Array, said: str) -> Finding:
    rule: Rule = FORMULA.get(actual.dtype.name, Exact())
    expected = wanted.astype(actual.dtype)
    comparison = compare({said: actual}, {said: expected}, Tolerance(rule))
    return _finding(what, comparison)


def _same(what: str, answer: Outputs, wanted: Outputs, tolerance: Tolerance, reference: Reference) -> Finding:
    magnitudes = reference.magnitudes
    if any(item.shape != wanted[name].shape for name, item in answer.items() if name in wanted):
        magnitudes = ()
    return _finding(what, compare(answer, wanted, _measurable(tolerance, magnitudes), magnitudes=magnitudes))


def _measurable(tolerance: Tolerance, magnitudes: object) -> Tolerance:
    """Without magnitudes there is nothing to scale by; shapes that differ fail before any number is looked at."""
    return tolerance if magnitudes or not isinstance(tolerance.rule, Scaled) else Tolerance(Ulp(0))


def _finding(what: str, comparison: Comparison) -> Finding:
    worst = next((item for item in comparison.outputs if not item.passed), next(iter(comparison.outputs), None))
    return Finding(what, comparison.passed, comparison.message, worst)


def _opposite(same: Finding) -> Finding:
    said = "the outputs are the same as the other model's" if same.passed else "the outputs differ, as they should"
    return Finding("differs_from", not same.passed, said, same.comparison)


def _within(what: str, values: Array, bounds: tuple[float, float]) -> Finding:
    low, high = bounds
    held = wide(values)
    outside = int(np.count_nonzero(~((held >= low) & (held <= high))))
    seen = f"[{held.min():g}, {held.max():g}]" if held.size else "nothing"
    said = f"{outside} of {held.size} outside [{low:g}, {high:g}]; seen {seen}"
    return Finding(what, outside == 0 and held.size > 0, said)


def _shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)


def expected_of(case: Case, subject: Subject) -> Expected:
    """What must hold of the case, as arrays."""
    expect = case.expect
    outputs = (
        None if expect.outputs is None else {f"output_{at}": array(spec) for at, spec in enumerate(expect.outputs)}
    )
    return Expected(
        first=case.inputs[0].label if case.inputs else None,
        outputs=outputs,
        shape=expect.shape,
        range=expect.range,
        formula=expect.formula,
        gradient=expect.gradient,
        gradient_range=expect.gradient_range,
        equals=None if expect.equals is None else _of(expect.equals, case, subject),
        differs_from=None if expect.differs_from is None else _of(expect.differs_from, case, subject),
        names=_known_names(case, subject),
    )


def _known_names(case: Case, subject: Subject) -> dict[str, Any]:
    """The layer's arguments, and the parameters and buffers of the module."""
    model = case.model.model
    known: dict[str, Any] = arguments(model) if isinstance(model, LayerModel) else {}
    held = {**dict(subject.module.named_parameters()), **dict(subject.module.named_buffers())}
    return known | {name.removeprefix("layer."): wide(to_numpy(tensor.detach())) for name, tensor in held.items()}


def _of(other: WeightedModel, case: Case, subject: Subject) -> dict[str, Array]:
    module = module_of(other, case, list(subject.inputs))
    outputs = answers(module, list(subject.inputs.values()), case.seed)
    return {f"output_{index}": to_numpy(output) for index, output in enumerate(outputs)}
