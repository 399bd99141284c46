"""One check: export, load, run, compare, time; whatever happens comes back as a :class:`Result`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from harness.blame.attribute import attribute, first_wrong
from harness.blame.disagreement import Disagreement
from harness.check.case_context import CaseContext, Verdict, same_form
from harness.check.expectations import hold
from harness.check.refusal import check_refusal
from harness.check.settings import Settings
from harness.check.stages import Clock, StageStopped
from harness.check.steps import begun, pictured, timed, where_it_ran, with_script
from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.registry import plugins
from harness.result import Blame, Finding, Result
from harness.runtimes import Session
from harness.spec.targets import Target

Array = NDArray[Any]


SAMPLED = "of these outputs a sample was packed, which is enough to find an error and too little to blame one"


def check(prepared: CaseContext, target: Target, settings: Settings, clock: Clock) -> Result:
    """Take the prepared's case to ``target`` and say what came of it. Raises nothing that a library raised."""
    blank = begun(prepared.case, target, clock)
    if blank.status == "skipped":
        return blank
    if prepared.case.expect.raises is not None:
        return with_script(check_refusal(prepared, target, blank, clock), prepared.case, target)
    row = _Row(blank)
    try:
        result = _verified(prepared, target, settings, row, clock)
    except StageStopped as stop:
        blame: Blame | None = "spec" if stop.stage == "build" else None
        stopped = replace(row.known, status="error", stage=stop.stage, symptom=stop.symptom, message=stop.message)
        result = replace(stopped, blame=blame)
    return with_script(result, prepared.case, target, lambda: prepared.references[0])


@dataclass(slots=True)
class _Row:
    """What is known of a check so far, by the fields of a result: a stage that does not finish leaves it behind."""

    blank: Result
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def known(self) -> Result:
        return replace(self.blank, **self.facts)


def _verified(prepared: CaseContext, target: Target, settings: Settings, row: _Row, clock: Clock) -> Result:
    with clock.stage("build"):
        references, about_eager = prepared.references, prepared.about_eager
    with clock.stage("export"):
        artifact = prepared.artifact(target)
    row.facts |= {"checker": artifact.checker, "artifact": artifact.digest, "notes": artifact.notes}
    with clock.stage("load"):
        session: Session = plugins("runtimes")[target.runtime].load(artifact, target.options)
    try:
        try:
            with clock.stage("run"):
                given = [reference.part(session.run(reference.inputs)) for reference in references]
        finally:
            with clock.stage("run"):
                row.facts |= where_it_ran(session.placement(), passed=True)
        with clock.stage("compare"):
            verdict = prepared.judge.verdict(prepared, given, session, artifact.opset)
        row.facts |= _found(verdict, about_eager, artifact.notes)
        result = pictured(_told(row.known, verdict, about_eager), verdict.compared)
        if result.symptom == "placement":
            return result
        if result.status == "failed" and result.blame is None:
            at = first_wrong(verdict.comparisons)
            if references[at].sample is not None:
                return replace(result, evidence=(SAMPLED,))
            blame, evidence = attribute(_scene(prepared, target, artifact, references[at], given[at]))
            return replace(result, blame=blame, evidence=evidence)
        if settings.latency and result.status == "passed":
            return timed(result, session, references[0].inputs, prepared.eager, clock, settings)
        return result
    finally:
        session.close()


def _scene(
    prepared: CaseContext, target: Target, artifact: Artifact, reference: Reference, answer: Mapping[str, Array]
) -> Disagreement:
    tolerance = prepared.tolerance(artifact.opset)

    def meets(other: Mapping[str, Array]) -> bool:
        found = hold(prepared.expected, reference, other, tolerance)
        return same_form(reference.eager, other) and all(each.passed for each in found)

    return Disagreement(target, artifact, reference, answer, tolerance, meets)


def _found(verdict: Verdict, about_eager: Sequence[Finding], notes: Sequence[str]) -> dict[str, Any]:
    """The numbers of the verdict, as fields of a result that has the ``notes`` already."""
    more = (note for comparison in verdict.comparisons for note in comparison.notes)
    return {
        "outputs": tuple(output for comparison in verdict.comparisons for output in comparison.outputs),
        "findings": (*verdict.findings, *_oracle(about_eager)),
        "distances": verdict.distances,
        "notes": tuple(dict.fromkeys((*notes, *more))),
    }


def _told(told: Result, verdict: Verdict, about_eager: Sequence[Finding]) -> Result:
    """The verdict in words: what is wrong first, and with whom."""
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
