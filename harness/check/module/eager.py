"""Eager torch's answers to a case, and the spec's ``expect``: whether eager torch meets it, and its refusal.

No target is involved. What eager torch itself gets wrong is found here, by the spec's ``expect`` and by the float64
reference.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.check.case_context import Refusal
from harness.check.judging.judge import (
    MET_IN_FLOAT64,
    Expected,
    check_expectations,
    check_gradients,
    for_expressions,
    have_same_form,
)
from harness.check.judging.steps import inputs_in_a_row, with_steps
from harness.check.module.further_inputs import tensors_of
from harness.check.stages import Clock, StageStopped, chain_text, is_from_code_under_test, message_of
from harness.compare.calibrated import plain_rule
from harness.compare.verdict import compare, distances
from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.model.build import (
    Subject,
    build_module,
    build_tensors,
    constructor_arguments,
    structure_of,
)
from harness.model.reference import compute_reference, default_tolerance_of, float64_outputs, gradients, tolerance_of
from harness.model.running import eager_outputs
from harness.model.state import references_of
from harness.model.tensors import to_numpy
from harness.model.weights import plain_name
from harness.result import Finding, Result
from harness.spec.language.case import Case, LayerModel, TensorSpec, WeightedModel
from harness.spec.language.inputs.draws import input_sets
from harness.spec.language.inputs.fills import array
from harness.spec.language.tolerances import Calibrated, Exact, Rule, Tolerance, Ulp
from harness.spec.targets import Target

Array = NDArray[Any]


def eager_references(case: Case, subject: Subject) -> tuple[Reference, ...]:
    """Eager torch's answers to each set of inputs, with what further calls show of a user's module."""
    compute = partial(_references_to_each_set, case, subject)
    if not case.runs_user_code or case.loop:
        return tuple(compute(True))
    return references_of(case, subject.module, compute, inputs_in_a_row)


def _references_to_each_set(case: Case, subject: Subject, repeat: bool) -> list[Reference]:
    first = compute_reference(case, subject, subject.inputs, repeat=repeat)
    references = [*_with_steps(case, subject, case.inputs, first)]
    for each in input_sets(case)[1:]:
        try:
            reference = compute_reference(case, subject, build_tensors(each.inputs), each.at, repeat=repeat)
            further = _with_steps(case, subject, each.inputs, replace(reference, repeats_shapes=each.draw > 1))
        except Exception as error:
            if not each.chosen_by_harness:
                raise
            warnings.warn(
                f"the dynamic axes were verified at no other size: at {each.at} eager torch raises "
                f"{message_of(error)}; name sizes under `also`",
                stacklevel=1,
            )
            break
        references += further
    return references


def _with_steps(case: Case, subject: Subject, specs: Sequence[TensorSpec], first: Reference) -> tuple[Reference, ...]:
    if not case.loop:
        return (first,)
    return with_steps(
        case,
        specs,
        first,
        lambda inputs, at: compute_reference(case, subject, tensors_of(inputs), at),
        lambda inputs: float64_outputs(case, subject, tensors_of(inputs)),
    )


def build_expected(case: Case, subject: Subject) -> Expected:
    """The spec's ``expect`` with its tensors filled, and with the answers of its other models."""
    expect = case.expect
    outputs = None
    if expect.outputs is not None:
        outputs = {f"output_{index}": array(spec) for index, spec in enumerate(expect.outputs)}
    return Expected(
        first=case.inputs[0].label if case.inputs else None,
        outputs=outputs,
        shape=expect.shape,
        range=expect.range,
        formula=expect.formula,
        gradient=expect.gradient,
        gradient_range=expect.gradient_range,
        equals=None if expect.equals is None else _answer_of(expect.equals, case, subject),
        differs_from=None if expect.differs_from is None else _answer_of(expect.differs_from, case, subject),
        names=_expression_names(case, subject) if expect.formula or expect.gradient else {},
    )


def _expression_names(case: Case, subject: Subject) -> dict[str, Any]:
    """The layer's arguments, and the parameters and buffers of the module."""
    model = case.model.model
    arguments: dict[str, Any] = constructor_arguments(model) if isinstance(model, LayerModel) else {}
    tensors = {**dict(subject.module.named_parameters()), **dict(subject.module.named_buffers())}
    arrays = {name: for_expressions(to_numpy(tensor.detach())) for name, tensor in tensors.items()}
    arguments = {
        name: for_expressions(to_numpy(value)) if isinstance(value, torch.Tensor) else value
        for name, value in arguments.items()
    }
    return arguments | {plain_name(name): values for name, values in arrays.items()}


def _answer_of(model: WeightedModel, case: Case, subject: Subject) -> dict[str, Array]:
    """Eager torch's answer for another ``model`` on the same inputs."""
    module = build_module(model, case)
    outputs = eager_outputs(module, list(subject.inputs.values()), case.seed)
    return {f"output_{index}": to_numpy(output) for index, output in enumerate(outputs)}


def check_eager(
    case: Case, subject: Subject, references: Sequence[Reference], expected: Expected, tolerance: Tolerance
) -> tuple[Finding, ...]:
    """Eager torch compared with the spec's ``expect`` under ``tolerance``, and with the float64 reference."""
    reference = references[0]
    findings = check_expectations(expected, reference, reference.eager, tolerance)
    unmet = [finding.what for finding in findings if not finding.passed]
    findings += _met_in_float64(expected, reference, tolerance, unmet)
    if case.expect.gradient or case.expect.gradient_range:
        findings += check_gradients(expected, reference, reference.eager, gradients(subject, case.seed))
    default = default_tolerance_of(case, None)
    for each in references:
        finding = _check_against_float64(case, each, default)
        if finding is not None and not (finding.passed and each.repeats_shapes):
            findings.append(finding)
    return tuple(findings)


def _check_against_float64(case: Case, reference: Reference, default: Tolerance) -> Finding | None:
    """Eager torch compared with the float64 reference; None without one.

    The layer's own tolerance, ``default``, applies, or the spec's if that allows more.
    """
    if reference.float64 is None:
        return None
    if isinstance(default.rule, Calibrated):
        return _rounding(reference)
    eager = reference.eager
    expected = {name: values.astype(eager[name].dtype) for name, values in reference.float64.items()}
    finding = _compare(reference, expected, default)
    return finding if finding.passed else _compare(reference, expected, tolerance_of(case, None))


def _rounding(reference: Reference) -> Finding:
    """How far eager torch is from its own run in float64. That shows no fault: it is what calibration measures."""
    errors = distances(reference.eager, {}, reference.float64 or {}, undefined=reference.undefined)
    largest = max((distance.eager_max_abs for distance in errors), default=0.0)
    at = "" if reference.at is None else f"at {reference.at}: "
    return Finding("float64_reference", True, f"{at}eager torch is at most {largest:.4g} from its run in float64")


def _compare(reference: Reference, expected: Mapping[str, Array], tolerance: Tolerance) -> Finding:
    """Whether eager torch agrees with ``expected``, the float64 reference in the outputs' dtypes."""
    by_output = {index: _with_rounding(rule) for index, rule in tolerance.by_output.items()}
    comparison = compare(
        reference.eager,
        expected,
        Tolerance(_with_rounding(tolerance.rule), by_output),
        magnitudes=reference.magnitudes,
        undefined=reference.undefined,
        at=reference.at,
    )
    return Finding("float64_reference", comparison.passed, comparison.message, next(iter(comparison.outputs), None))


def _with_rounding(rule: Rule) -> Rule:
    """``rule`` for eager torch: it rounds at each step, the float64 reference only once. So exact means two ULP."""
    return Ulp(2) if isinstance(rule, Exact) else Ulp(rule.n + 2) if isinstance(rule, Ulp) else rule


def _met_in_float64(
    expected: Expected, reference: Reference, tolerance: Tolerance, unmet: Sequence[str]
) -> list[Finding]:
    """A finding for each ``unmet`` key of ``expect`` that the float64 reference meets: the expectation is right.

    None of them if eager torch is as close to the float64 reference as two correct implementations are: then the
    expectation only allows too little.
    """
    if reference.float64 is None or not unmet:
        return []
    eager = reference.eager
    with np.errstate(over="ignore"):
        float64 = {name: values.astype(eager[name].dtype) for name, values in reference.float64.items()}
    plain = {index: plain_rule(values.dtype.name) for index, values in enumerate(eager.values())}
    if not have_same_form(float64, eager) or compare(eager, float64, Tolerance(Exact(), plain)).passed:
        return []
    findings = check_expectations(expected, reference, float64, tolerance)
    return [
        Finding(MET_IN_FLOAT64 + finding.what, True, f"the float64 reference meets expect.{finding.what}")
        for finding in findings
        if finding.passed and finding.what in unmet
    ]


def eager_refusal(case: Case, export: Callable[[Target, Subject], Artifact], result: Result, clock: Clock) -> Refusal:
    """How eager torch answers ``case``, which it should refuse in the words of the spec.

    ``export`` exports the module for a target that has to refuse as well.
    """
    text = case.expect.raises
    assert text is not None
    try:
        with clock.stage("build"):
            inputs = build_tensors(case.inputs)
            module = build_module(case.model, case)
    except StageStopped as stop:
        return Refusal(_with_eager_error(result, stop.cause, text, f"torch refuses to build it: {stop.message}"))
    try:
        module(*(tensor.clone() for tensor in inputs.values()))
    except BaseException as error:
        if not is_from_code_under_test(error):
            raise
        result = _with_eager_error(result, error, text, f"torch raises {message_of(error)}")
    else:
        return Refusal(_with_wrong_spec(result, f"eager torch does not raise; expected an error with {text!r}"))
    if result.status == "failed":
        return Refusal(result)
    structure = structure_of(case)
    subject = Subject(module, inputs, outputs=1, mode=case.mode, dynamic=case.dynamic, structure=structure)
    arrays = {label: to_numpy(tensor) for label, tensor in inputs.items()}
    return Refusal(result, arrays, lambda target: export(target, subject))


def _with_eager_error(result: Result, error: BaseException, text: str, message: str) -> Result:
    if text in chain_text(error):
        return replace(result, findings=(Finding("raises", True, message),))
    return _with_wrong_spec(result, f"{message}; expected an error with {text!r}")


def _with_wrong_spec(result: Result, message: str) -> Result:
    return replace(result, status="failed", stage="build", symptom="mismatch", message=message, blame="spec")
