"""A case that eager torch refuses: a target must refuse it too, and not answer with something."""

from __future__ import annotations

from dataclasses import replace

from harness.exporters import Artifact
from harness.model.build import module_of, tensors
from harness.model.subject import Subject
from harness.model.tensors import to_numpy
from harness.registry import plugins
from harness.result import Finding, Result
from harness.runtimes import Session
from harness.spec.target import Target
from harness.verify.stages import Clock, StageStopped, chain_text, message_of
from harness.verify.trial import Trial


def check_refusal(trial: Trial, target: Target, blank: Result, clock: Clock) -> Result:
    """Pass where eager torch raises the text of ``expect.raises`` and the target refuses as well.

    Eager torch must refuse in the words of the spec. Exporters and runtimes have words of their own for the same
    thing, so any exception of theirs counts, and what it says is kept as a finding. An answer is a mismatch.
    """
    case, text = trial.case, trial.case.expect.raises
    assert text is not None
    try:
        with clock.stage("build"):
            inputs = tensors(case.inputs)
            module = module_of(case.model, case, list(inputs))
    except StageStopped as stop:
        return _eager_refused(blank, stop.cause, text, f"torch refuses to build it: {stop.message}")
    try:
        module(*(tensor.clone() for tensor in inputs.values()))
    except Exception as error:  # noqa: BLE001 - this case is about what is raised here
        told = _eager_refused(blank, error, text, f"torch raises {message_of(error)}")
    else:
        said = f"eager torch does not raise; expected an error with {text!r}"
        return replace(blank, status="failed", stage="build", symptom="mismatch", message=said, blame="spec")
    if told.status == "failed":
        return told
    subject = Subject(module, inputs, outputs=1, mode=case.mode, dynamic=case.dynamic)
    try:
        answer = _answer(trial, target, subject, clock)
    except StageStopped as stop:
        refused = Finding("raises", True, f"{target} refuses at {stop.stage}: {stop.message}")
        return replace(told, findings=(*told.findings, refused))
    said = f"torch raises an error with {text!r}; {target.runtime} answered with {answer}"
    return replace(told, status="failed", stage="compare", symptom="mismatch", message=said, blame="exporter")


def _eager_refused(blank: Result, error: BaseException, text: str, said: str) -> Result:
    if text in chain_text(error):
        return replace(blank, findings=(Finding("raises", True, said),))
    wrong = f"{said}; expected an error with {text!r}"
    return replace(blank, status="failed", stage="build", symptom="mismatch", message=wrong, blame="spec")


def _answer(trial: Trial, target: Target, subject: Subject, clock: Clock) -> str:
    """What the target answers, in words; raises :class:`StageStopped` where it refuses."""
    with clock.stage("export"):
        artifact: Artifact = trial.artifact(target, subject)
    with clock.stage("load"):
        session: Session = plugins("runtimes")[target.runtime].load(artifact, target.options)
    try:
        with clock.stage("run"):
            outputs = session.run({label: to_numpy(tensor) for label, tensor in subject.inputs.items()})
        return ", ".join(f"{values.dtype}{list(values.shape)}" for values in outputs.values())
    finally:
        session.close()
