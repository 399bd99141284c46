"""One check: export, load, run, compare, time. Whatever happens becomes a :class:`Result`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from harness.blame.attribute import attribute
from harness.blame.disagreement import Disagreement
from harness.blame.file_runs import STAGES_OF_THE_RUNTIME, attribute_stopped
from harness.blame.transforms import transform_to_blame
from harness.check.case_context import CaseContext
from harness.check.judging.example_values import KeptValue, find_kept_value, kept_value
from harness.check.judging.judge import Answer, meets_expectations, run_twice
from harness.check.judging.layers import fails_by_layers_alone, with_layers
from harness.check.refusal import check_refusal
from harness.check.results import (
    LOST_STATE,
    blame_for_build,
    initial_result,
    placement_fields,
    with_error,
    with_latency,
    with_pictures,
    with_training_mode,
    with_verdict,
)
from harness.check.settings import Settings
from harness.check.stages import Clock, StageStopped
from harness.compare.verdict import compare_with_reference
from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.registry import plugins
from harness.reproduction import reproduction
from harness.result import Result
from harness.runtimes import Session
from harness.spec.targets import Target

SAMPLE_EVIDENCE = "the bundle holds only a sample of these outputs: enough to find an error, too little to attribute it"
RANDOM_EVIDENCE = (
    "two calls with the same inputs gave the same answer to the last bit; two calls of eager torch did not"
)


def check_with_script(prepared: CaseContext, target: Target, settings: Settings, clock: Clock) -> Result:
    """As :func:`check`; a failure comes with a script that shows it without harness. The script is not run."""
    result = check(prepared, target, settings, clock)
    if result.status not in {"failed", "error"}:
        return result
    return replace(result, reproduction=reproduction(prepared.case, target, result, lambda: prepared.references[0]))


def check(prepared: CaseContext, target: Target, settings: Settings, clock: Clock) -> Result:
    """The result of the case on ``target``. An exception of a library becomes an error of its stage."""
    result = initial_result(prepared.case, target, clock)
    if result.status == "skipped":
        return result
    if prepared.case.expect.raises is not None:
        return check_refusal(prepared, target, result, clock)
    progress = _Progress(result)
    try:
        result = _checked(prepared, target, settings, progress, clock)
    except StageStopped as stop:
        result = _with_stop(progress.result, stop, prepared, target)
    if result.stage == "build" or (words := prepared.training) is None:
        return result
    return with_training_mode(result, words)


def _with_stop(result: Result, stop: StageStopped, prepared: CaseContext, target: Target) -> Result:
    """``result`` as the error of the stage, with graph optimization blamed if the file runs without it."""
    if stop.stage not in STAGES_OF_THE_RUNTIME:
        return with_error(result, stop, blame=blame_for_build(stop) if stop.stage == "build" else None)
    artifact = prepared.artifact(target)

    def gives_expected(session: Session) -> bool:
        tolerance = prepared.tolerance(artifact.opset, target)
        answers = [(each, each.comparable_part(session.run(each.inputs))) for each in prepared.references]
        return all(compare_with_reference(answer, each, tolerance).passed for each, answer in answers)

    blame, evidence = attribute_stopped(target, artifact, stop.symptom, gives_expected)
    return replace(with_error(result, stop, blame=blame), evidence=evidence)


class _Progress:
    """The result so far. It stays available if a stage does not finish."""

    def __init__(self, result: Result) -> None:
        self.result = result

    def add(self, **fields: Any) -> None:
        """Set ``fields`` of the result."""
        self.result = replace(self.result, **fields)


def _checked(prepared: CaseContext, target: Target, settings: Settings, progress: _Progress, clock: Clock) -> Result:
    with clock.stage("build"):
        references, eager_findings = prepared.references_for(target), prepared.eager_findings
    with clock.stage("export"):
        artifact = prepared.artifact(target)
    progress.add(checker=artifact.checker, artifact=artifact.digest, notes=artifact.notes)
    with clock.stage("load"):
        open_session: Callable[[], Session] = partial(
            plugins("runtimes")[target.runtime].load, artifact, target.options
        )
        session = open_session()
    try:
        try:
            with clock.stage("run"):
                references, answers, varies = run_twice(references, session, open_session)
        finally:
            with clock.stage("run"):
                progress.add(**placement_fields(session.placement(), passed=True))
        with clock.stage("compare"):
            tolerance = prepared.tolerance(artifact.opset, target)
            verdict = prepared.judge.verdict(references, prepared.expected, answers, tolerance, session)
            # In training mode an exporter may leave the noise out on purpose; its note says so. A bundle has no mode.
            evaluates = prepared.case.mode == "eval" and not prepared.case.is_recorded
            verdict = replace(verdict, keeps_random=evaluates and references[0].stochastic and not varies)
            kept = None
            if verdict.passed and (failed := find_kept_value(prepared, target, artifact, session)) is not None:
                references, answers, kept = [*references, failed.reference], [*answers, failed.answer], failed.kept
                verdict = verdict.with_further(failed.reference, failed.answer, tolerance)
            elif verdict.fails_after_first_call:
                kept = kept_value(prepared, target, artifact, references[verdict.first_failing])
        cause = None if kept is None else kept.cause
        if kept is None and references[0].second_call is not None:
            cause = LOST_STATE
        result = with_verdict(progress.result, verdict, eager_findings, cause)
        result = with_pictures(result, verdict.compared)
        if result.symptom == "placement":
            return result
        first = verdict.first_failing
        with clock.stage("compare"):
            inside = prepared.reference_inside
            result = with_layers(result, prepared.case, inside, target, artifact, references[first], session, settings)
        if result.status == "failed" and result.blame is None and not fails_by_layers_alone(result):
            if verdict.keeps_random:
                return replace(result, blame="exporter", evidence=(RANDOM_EVIDENCE,))
            if evidence := transform_to_blame(target, partial(_problem_on, prepared, first)):
                return replace(result, blame="exporter", evidence=evidence)
            disagreement = _disagreement(prepared, target, artifact, references[first], answers[first])
            return _with_blame(result, disagreement, kept)
        if settings.latency and result.status == "passed":
            return with_latency(result, session, references[0].inputs, prepared.eager_call, clock, settings)
        return result
    finally:
        session.close()


def _problem_on(prepared: CaseContext, number: int, target: Target) -> str | None:
    """What is wrong with the answer of ``target`` to a set of inputs; None if nothing is."""
    reference, artifact = prepared.references_for(target)[number], prepared.artifact(target)
    session: Session = plugins("runtimes")[target.runtime].load(artifact, target.options)
    try:
        answer = reference.comparable_part(session.run(reference.inputs))
    finally:
        session.close()
    comparison = compare_with_reference(answer, reference, prepared.tolerance(artifact.opset, target))
    return None if comparison.passed else comparison.message


def _disagreement(
    prepared: CaseContext, target: Target, artifact: Artifact, reference: Reference, answer: Answer
) -> Disagreement:
    tolerance = prepared.tolerance(artifact.opset, target)
    is_expected = partial(meets_expectations, prepared.expected, reference, tolerance)
    return Disagreement(target, artifact, reference, answer, tolerance, is_expected)


def _with_blame(result: Result, disagreement: Disagreement, kept: KeptValue | None) -> Result:
    if disagreement.reference.sample is not None:
        return replace(result, evidence=(SAMPLE_EVIDENCE,))
    if kept is not None and kept.proven:
        return replace(result, blame="exporter", evidence=kept.evidence)
    if disagreement.reference.undecidable is not None:
        return replace(result, evidence=(disagreement.reference.undecidable,))
    blame, evidence = attribute(disagreement)
    return replace(result, blame=blame, evidence=(*evidence, *(kept.evidence if kept is not None else ())))
