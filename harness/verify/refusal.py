"""A case that eager torch refuses: a target must refuse it too, and not answer with something."""

from __future__ import annotations

from dataclasses import replace

from harness.errors import StageError
from harness.registry import plugins
from harness.result import Finding, Result
from harness.runtimes import Session
from harness.spec.target import Target
from harness.verify.basis import Basis, Refusal
from harness.verify.causes import causes
from harness.verify.control import end_of_control
from harness.verify.stages import Clock, StageStopped


def check_refusal(basis: Basis, target: Target, blank: Result, clock: Clock) -> Result:
    """Pass where eager torch raises the text of ``expect.raises`` and the target refuses as well.

    Eager torch must refuse in the words of the spec. Exporters and runtimes have words of their own for the same
    thing, so what they raise counts, and is kept as a finding, unless the target refuses everything. An answer is a
    mismatch.
    """
    refusal = basis.refusal(blank, clock)
    told = refusal.told
    if refusal.inputs is None:
        return told
    try:
        answer = _answer(refusal, target, clock)
    except StageStopped as stop:
        return refused(refusal, target, stop)
    said = f"torch raises an error with {basis.case.expect.raises!r}; {target.runtime} answered with {answer}"
    return replace(told, status="failed", stage="compare", symptom="mismatch", message=said, blame="exporter")


def refused(refusal: Refusal, target: Target, stop: StageStopped, *, runs: bool = True) -> Result:
    """What a target that did not answer comes to: a pass where it refused the case, an error where it cannot run.

    ``runs`` is False where the export is all that was asked of it.
    """
    told = refusal.told
    if not _is_about_the_case(stop):
        return replace(told, status="error", stage=stop.stage, symptom=stop.symptom, message=stop.message)
    if (end := end_of_control(target, refusal.control, run=runs)) is not None:
        said = f"{target} refuses a ReLU as well, so it has not refused this case: {end.message}"
        return replace(told, status="error", stage=end.stage, symptom=end.symptom, message=said)
    finding = Finding("raises", True, f"{target} refuses at {stop.stage}: {stop.message}")
    return replace(told, findings=(*told.findings, finding))


def _is_about_the_case(stop: StageStopped) -> bool:
    """False for what says nothing of the case: a module or memory is missing, or harness itself refused the export."""
    if stop.symptom in {"unavailable", "out-of-memory"} or any(
        isinstance(cause, ImportError) for cause in causes(stop.cause)
    ):
        return False
    return not (stop.stage == "export" and isinstance(stop.cause, StageError) and not stop.cause.of_library)


def _answer(refusal: Refusal, target: Target, clock: Clock) -> str:
    """What the target answers, in words; raises :class:`StageStopped` where it refuses."""
    assert refusal.inputs is not None
    assert refusal.artifact is not None
    with clock.stage("export"):
        artifact = refusal.artifact(target)
    with clock.stage("load"):
        session: Session = plugins("runtimes")[target.runtime].load(artifact, target.options)
    try:
        with clock.stage("run"):
            outputs = session.run(refusal.inputs)
        return ", ".join(f"{values.dtype}{list(values.shape)}" for values in outputs.values())
    finally:
        session.close()
