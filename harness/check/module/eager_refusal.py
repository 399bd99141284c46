"""Eager torch on a case that it should refuse, in the words of the spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.check.case_context import Refusal
from harness.check.stages import Clock, StageStopped, chain_text, is_from_code_under_test, message_of
from harness.exporters import Artifact
from harness.model.build import Subject, build_module, build_tensors, structure_of
from harness.model.tensors import to_numpy
from harness.result import Finding, Result
from harness.spec.language.case import Case
from harness.spec.targets import Target


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
