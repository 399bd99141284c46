"""A case that eager torch refuses: a target must refuse it too, and not answer with something."""

from __future__ import annotations

from dataclasses import replace

from harness.registry import plugins
from harness.result import Finding, Result
from harness.runtimes import Session
from harness.spec.target import Target
from harness.verify.basis import Basis, Refusal
from harness.verify.stages import Clock, StageStopped


def check_refusal(basis: Basis, target: Target, blank: Result, clock: Clock) -> Result:
    """Pass where eager torch raises the text of ``expect.raises`` and the target refuses as well.

    Eager torch must refuse in the words of the spec. Exporters and runtimes have words of their own for the same
    thing, so any exception of theirs counts, and what it says is kept as a finding. An answer is a mismatch.
    """
    refusal = basis.refusal(blank, clock)
    told = refusal.told
    if refusal.inputs is None:
        return told
    try:
        answer = _answer(refusal, target, clock)
    except StageStopped as stop:
        return refused(told, target, stop)
    said = f"torch raises an error with {basis.case.expect.raises!r}; {target.runtime} answered with {answer}"
    return replace(told, status="failed", stage="compare", symptom="mismatch", message=said, blame="exporter")


def refused(told: Result, target: Target, stop: StageStopped) -> Result:
    """The pass of a target that refuses as eager torch did."""
    finding = Finding("raises", True, f"{target} refuses at {stop.stage}: {stop.message}")
    return replace(told, findings=(*told.findings, finding))


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
