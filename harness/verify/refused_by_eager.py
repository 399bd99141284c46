"""Eager torch is asked whether it refuses a case, in the words of the spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.exporters import Artifact
from harness.model.build import module_of, tensors
from harness.model.subject import Subject
from harness.model.tensors import to_numpy
from harness.result import Finding, Result
from harness.spec.case import Case
from harness.spec.target import Target
from harness.verify.basis import Refusal
from harness.verify.stages import Clock, StageStopped, chain_text, is_of_the_code, message_of


def refused_by_eager(case: Case, export: Callable[[Target, Subject], Artifact], blank: Result, clock: Clock) -> Refusal:
    """What eager torch says, and what a target is to be asked where it refuses; ``export`` makes the file for it."""
    text = case.expect.raises
    assert text is not None
    try:
        with clock.stage("build"):
            inputs = tensors(case.inputs)
            module = module_of(case.model, case, list(inputs))
    except StageStopped as stop:
        return Refusal(_eager_refused(blank, stop.cause, text, f"torch refuses to build it: {stop.message}"))
    try:
        module(*(tensor.clone() for tensor in inputs.values()))
    except BaseException as error:
        if not is_of_the_code(error):
            raise
        told = _eager_refused(blank, error, text, f"torch raises {message_of(error)}")
    else:
        said = f"eager torch does not raise; expected an error with {text!r}"
        return Refusal(replace(blank, status="failed", stage="build", symptom="mismatch", message=said, blame="spec"))
    if told.status == "failed":
        return Refusal(told)
    subject = Subject(module, inputs, outputs=1, mode=case.mode, dynamic=case.dynamic)
    arrays = {label: to_numpy(tensor) for label, tensor in inputs.items()}
    return Refusal(told, arrays, lambda target: export(target, subject))


def _eager_refused(blank: Result, error: BaseException, text: str, said: str) -> Result:
    if text in chain_text(error):
        return replace(blank, findings=(Finding("raises", True, said),))
    wrong = f"{said}; expected an error with {text!r}"
    return replace(blank, status="failed", stage="build", symptom="mismatch", message=wrong, blame="spec")
