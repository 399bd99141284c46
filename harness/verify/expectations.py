"""Holds an answer against what the spec says must be, beyond agreement with eager torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.verdict import Comparison, compare
from harness.model.build import answers, module_of
from harness.model.layers import arguments
from harness.model.reference import Reference
from harness.model.subject import Subject
from harness.model.tensors import to_numpy
from harness.result import Finding
from harness.spec.case import Case, LayerModel, WeightedModel
from harness.spec.expression import compile_expression
from harness.spec.fill import array
from harness.spec.tolerance import Close, Exact, Rule, Scaled, Tolerance, Ulp

Array = NDArray[Any]

# A closed form is evaluated in float64 with the spec's own constants, so an implementation that
# rounds at each step is held to the defaults of torch.testing.assert_close, not to equality.
FORMULA: Mapping[str, Close] = {
    "float16": Close(1e-3, 1e-5),
    "bfloat16": Close(1.6e-2, 1e-5),
    "float32": Close(1.3e-6, 1e-5),
    "float64": Close(1e-7, 1e-7),
}


def hold(
    case: Case, subject: Subject, reference: Reference, answer: Mapping[str, Array], tolerance: Tolerance
) -> Iterator[Finding]:
    """One finding for each key under ``expect`` that speaks of outputs."""
    expect = case.expect
    first = next(iter(answer.values()), None)
    if expect.outputs is not None:
        wanted = {f"output_{index}": array(spec) for index, spec in enumerate(expect.outputs)}
        yield _same("outputs", answer, wanted, tolerance, reference)
    if expect.shape is not None:
        shapes = tuple(tuple(item.shape) for item in answer.values())
        yield Finding("shape", shapes == expect.shape, f"shapes {_shapes(shapes)}, expected {_shapes(expect.shape)}")
    if expect.range is not None and first is not None:
        yield _within("range", first, expect.range)
    if expect.formula is not None and first is not None:
        yield _formula(expect.formula, first, names(case, subject, reference, answer))
    for what, other in (("equals", expect.equals), ("differs_from", expect.differs_from)):
        if other is not None:
            same = _same(what, answer, _of(other, case, subject), tolerance, reference)
            yield same if what == "equals" else _opposite(same)


def hold_gradients(
    case: Case, subject: Subject, reference: Reference, answer: Mapping[str, Array], gradients: Mapping[str, Array]
) -> Iterator[Finding]:
    """One finding for each gradient that the spec gives in closed form, and for the range of the first input's."""
    known = names(case, subject, reference, answer)
    for name, text in case.expect.gradient.items():
        wanted = np.asarray(compile_expression(text).evaluate(known), dtype=np.float64)
        actual = gradients[name]
        yield _same_values("gradient", actual, np.broadcast_to(wanted, actual.shape), f"gradient by {name}")
    if case.expect.gradient_range is not None:
        yield _within("gradient_range", gradients[case.inputs[0].label], case.expect.gradient_range)


def names(case: Case, subject: Subject, reference: Reference, answer: Mapping[str, Array]) -> dict[str, Any]:
    """What an expression may speak of: arguments, parameters, inputs by label and as ``x``, the output as ``y``."""
    model = case.model.model
    known: dict[str, Any] = arguments(model) if isinstance(model, LayerModel) else {}
    held = {**dict(subject.module.named_parameters()), **dict(subject.module.named_buffers())}
    known |= {name.removeprefix("layer."): _wide(to_numpy(tensor.detach())) for name, tensor in held.items()}
    first = next(iter(reference.inputs.values()), None)
    known |= {"x": None if first is None else _wide(first), "y": _wide(next(iter(answer.values())))}
    return known | {label: _wide(values) for label, values in reference.inputs.items()}


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


def _same(
    what: str, answer: Mapping[str, Array], wanted: Mapping[str, Array], tolerance: Tolerance, reference: Reference
) -> Finding:
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
    wide = _wide(values)
    outside = int(np.count_nonzero(~((wide >= low) & (wide <= high))))
    seen = f"[{wide.min():g}, {wide.max():g}]" if wide.size else "nothing"
    said = f"{outside} of {wide.size} outside [{low:g}, {high:g}]; seen {seen}"
    return Finding(what, outside == 0 and wide.size > 0, said)


def _of(other: WeightedModel, case: Case, subject: Subject) -> dict[str, Array]:
    module = module_of(other, case, list(subject.inputs))
    outputs = answers(module, list(subject.inputs.values()), case.seed)
    return {f"output_{index}": to_numpy(output) for index, output in enumerate(outputs)}


def _shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)


def _wide(values: Array) -> Array:
    return values if values.dtype.kind in "iub" else values.astype(np.float64)
