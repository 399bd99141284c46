"""One check: export, load, run, compare, time; whatever happens comes back as a :class:`Result`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from harness.blame.attribute import attribute, first_wrong
from harness.blame.scene import Scene
from harness.compare.distance import distances
from harness.compare.verdict import Comparison, compare
from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.registry import plugins
from harness.result import Blame, Finding, Result
from harness.runtimes import Differentiable, Session
from harness.spec.target import Target
from harness.verify.basis import Basis
from harness.verify.expected import hold, hold_gradients
from harness.verify.refusal import check_refusal
from harness.verify.settings import Settings
from harness.verify.shown import Sides, pictured, with_script
from harness.verify.stages import Clock, StageStopped
from harness.verify.steps import begun, placed, timed

Array = NDArray[Any]


SAMPLED = "of these outputs a sample was packed, which is enough to find an error and too little to blame one"


def check(trial: Basis, target: Target, settings: Settings, clock: Clock) -> Result:
    """Take the trial's case to ``target`` and say what came of it. Raises nothing that a library raised."""
    blank = begun(trial.case, target, clock)
    if blank.status == "skipped":
        return blank
    if trial.case.expect.raises is not None:
        return with_script(check_refusal(trial, target, blank, clock), trial.case, target)
    row = _Row(blank)
    try:
        result = _verified(trial, target, settings, row, clock)
    except StageStopped as stop:
        blame: Blame | None = "spec" if stop.stage == "build" else None
        stopped = replace(row.known, status="error", stage=stop.stage, symptom=stop.symptom, message=stop.message)
        result = replace(stopped, blame=blame)
    return with_script(result, trial.case, target, lambda: trial.references[0])


@dataclass(slots=True)
class _Row:
    """What is known of a check so far: a stage that does not finish leaves it behind."""

    known: Result


def _verified(trial: Basis, target: Target, settings: Settings, row: _Row, clock: Clock) -> Result:
    with clock.stage("build"):
        references, about_eager = trial.references, trial.about_eager
    with clock.stage("export"):
        artifact = trial.artifact(target)
    row.known = replace(row.known, checker=artifact.checker, artifact=artifact.digest, notes=artifact.notes)
    with clock.stage("load"):
        session: Session = plugins("runtimes")[target.runtime].load(artifact, target.options)
    try:
        try:
            with clock.stage("run"):
                given = [reference.part(session.run(reference.inputs)) for reference in references]
        finally:
            with clock.stage("run"):
                row.known = placed(row.known, session.placement())
        with clock.stage("compare"):
            verdict = _judge(trial, references, given, session, artifact)
        result = pictured(_told(row.known, verdict, about_eager), verdict.compared)
        if result.symptom == "placement":
            return result
        if result.status == "failed" and result.blame is None:
            at = first_wrong(verdict.comparisons)
            if references[at].sample is not None:
                return replace(result, evidence=(SAMPLED,))
            blame, evidence = attribute(_scene(trial, target, artifact, references[at], given[at]))
            return replace(result, blame=blame, evidence=evidence)
        if settings.latency and result.status == "passed":
            return timed(result, session, references[0].inputs, trial.eager, clock, settings)
        return result
    finally:
        session.close()


def _scene(
    trial: Basis, target: Target, artifact: Artifact, reference: Reference, answer: Mapping[str, Array]
) -> Scene:
    tolerance = trial.tolerance(artifact.opset)

    def meets(other: Mapping[str, Array]) -> bool:
        return all(found.passed for found in hold(trial.expected, reference, other, tolerance))

    return Scene(target, artifact, reference, answer, tolerance, meets)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What comparing found: against eager torch at each set of shapes, and against the spec."""

    compared: tuple[Sides, ...]
    findings: tuple[Finding, ...]
    distances: tuple[Any, ...]

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        return tuple(sides.comparison for sides in self.compared)


def _judge(
    trial: Basis,
    references: Sequence[Reference],
    given: Sequence[Mapping[str, Array]],
    session: Session,
    artifact: Artifact,
) -> _Verdict:
    tolerance = trial.tolerance(artifact.opset)
    compared = tuple(
        Sides(
            compare(
                answer,
                reference.eager,
                tolerance,
                magnitudes=reference.magnitudes,
                undefined=reference.undefined,
                at=reference.at,
            ),
            answer,
            reference.eager,
            reference.undefined,
        )
        for reference, answer in zip(references, given, strict=True)
        if not reference.stochastic
    )
    own, answer = references[0], given[0]
    form = _same_structure(own.eager, answer)
    # An answer of another form has failed already, and the spec's expressions could not be evaluated on it.
    findings = list(hold(trial.expected, own, answer, tolerance)) if form.passed else []
    if own.stochastic:
        findings.append(form)
    expect = trial.expected
    if form.passed and (expect.gradient or expect.gradient_range) and isinstance(session, Differentiable):
        gradients = session.gradients(own.inputs)
        findings += hold_gradients(expect, own, answer, gradients)
    known = () if own.oracle is None else distances(own.eager, answer, own.oracle, undefined=own.undefined)
    return _Verdict(compared, tuple(findings), tuple(known))


def _told(result: Result, verdict: _Verdict, about_eager: Sequence[Finding]) -> Result:
    """The verdict in words: what is wrong first, and with whom."""
    outputs = tuple(output for comparison in verdict.comparisons for output in comparison.outputs)
    notes = (*result.notes, *(note for comparison in verdict.comparisons for note in comparison.notes))
    told = replace(
        result, outputs=outputs, findings=(*verdict.findings, *_oracle(about_eager)), distances=verdict.distances
    )
    told = replace(told, notes=tuple(dict.fromkeys(notes)))
    wrong_eager = [finding for finding in about_eager if not finding.passed]
    wrong = [comparison.message for comparison in verdict.comparisons if not comparison.passed]
    wrong += [f"expect.{finding.what}: {finding.message}" for finding in verdict.findings if not finding.passed]
    if wrong_eager:
        blame: Blame = "torch" if any(finding.what == "oracle" for finding in wrong_eager) else "spec"
        said = "; ".join(f"eager torch itself, {finding.what}: {finding.message}" for finding in wrong_eager)
        failed = replace(told, status="failed", stage="compare", symptom="mismatch", message=said)
        return replace(failed, blame=blame, evidence=_about(about_eager))
    if not wrong and not verdict.comparisons and not any(finding.what in VALUES for finding in verdict.findings):
        wrong = ["nothing was compared: eager torch answers differently each time; say under expect what must hold"]
    if wrong:
        return replace(told, status="failed", stage="compare", symptom="mismatch", message="; ".join(wrong))
    return told


def _about(about_eager: Sequence[Finding]) -> tuple[str, ...]:
    """What blaming torch or the spec rests on: what no export has touched, and where it stands."""
    unmet = [f"expect.{finding.what}" for finding in about_eager if not finding.passed and finding.what != "oracle"]
    evidence = [f"eager torch, before any export, does not meet the spec's {', '.join(unmet)}"] if unmet else []
    near = [finding.passed for finding in _oracle(about_eager)]
    if near and not all(near):
        evidence.append(
            "eager torch, before any export, is off the layer's definition in float64 by more than rounding"
        )
    elif near:
        evidence.append("eager torch agrees with the layer's definition in float64")
    return tuple(evidence)


VALUES = ("outputs", "range", "formula", "equals", "differs_from")


def _oracle(about_eager: Sequence[Finding]) -> tuple[Finding, ...]:
    """Of what was found about eager torch, the part that the row repeats: its distance from the definition."""
    return tuple(finding for finding in about_eager if finding.what == "oracle")


def _same_structure(eager: Mapping[str, Array], answer: Mapping[str, Array]) -> Finding:
    def form(outputs: Mapping[str, Array]) -> list[str]:
        return [f"{name} {values.dtype}{list(values.shape)}" for name, values in outputs.items()]

    return Finding("structure", form(eager) == form(answer), f"{form(answer)}, expected {form(eager)}")
