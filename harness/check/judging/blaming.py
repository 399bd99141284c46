"""The step to blame for a failed check: what has been judged so far is the evidence, and further runs add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from harness.blame.attribute import attribute
from harness.blame.disagreement import Disagreement
from harness.blame.transforms import transform_to_blame
from harness.check.case_context import CaseContext
from harness.check.judging.example_values import KeptValue
from harness.check.judging.judge import Answer, Verdict, meets_expectations
from harness.check.judging.steps import ERRORS_ADD_UP
from harness.check.results import with_cause
from harness.check.samples.run import SampleOutcome
from harness.compare.verdict import compare_with_reference
from harness.model.answer import Reference
from harness.registry import plugins
from harness.result import QUANTIZED_WEIGHTS, Finding, Result
from harness.runtimes import Session
from harness.spec.language.tolerances import Tolerance
from harness.spec.targets import Target

SAMPLE_EVIDENCE = "the bundle holds only a sample of these outputs: enough to find an error, too little to attribute it"
RANDOM_EVIDENCE = (
    "two calls with the same inputs gave the same answer to the last bit; two calls of eager torch did not"
)


@dataclass(frozen=True, slots=True)
class JudgedAnswers:
    """The answers of a target with their references and the verdict on them.

    ``tolerance`` is the one that they were compared under. ``kept`` is a value of the example inputs that the export
    keeps; ``samples`` is the outcome of those that were run one by one.
    """

    tolerance: Tolerance
    references: Sequence[Reference]
    answers: Sequence[Answer]
    verdict: Verdict
    kept: KeptValue | None = None
    samples: SampleOutcome | None = None

    def with_further(self, reference: Reference, answer: Answer, tolerance: Tolerance) -> JudgedAnswers:
        """The same with one more answer, judged under ``tolerance``."""
        verdict = self.verdict.with_further(reference, answer, tolerance)
        references, answers = [*self.references, reference], [*self.answers, answer]
        return replace(self, references=references, answers=answers, verdict=verdict)

    def with_findings(self, findings: Sequence[Finding]) -> JudgedAnswers:
        """The same with further ``findings``."""
        return replace(self, verdict=replace(self.verdict, findings=(*self.verdict.findings, *findings)))

    def with_samples(
        self, samples: SampleOutcome, prepared: CaseContext, target: Target, session: Session
    ) -> JudgedAnswers:
        """The same with ``samples``, and with the answer to the worst of them if it is the first that is wrong.

        That one is judged by the rules for a single sample, so that it can be explained like any other answer.
        """
        judged = replace(self, samples=samples)
        if samples.worst is None or not self.verdict.passed:
            return judged
        reference = samples.worst(target)
        answer = reference.comparable_part(session.run(reference.inputs))
        return judged.with_further(reference, answer, prepared.tolerance(prepared.artifact(target).opset, target))


def blamed(result: Result, judged: JudgedAnswers, prepared: CaseContext, target: Target) -> Result:
    """The failed ``result`` with the step to blame, as far as the evidence shows one."""
    verdict = judged.verdict
    if verdict.keeps_random:
        return replace(result, blame="exporter", evidence=(RANDOM_EVIDENCE,))
    if (reason := prepared.unfit_reference) is not None:
        return with_cause(result, reason)
    if verdict.passed:  # only the sum of all samples is wrong, and no answer shows why
        return result
    reference, answer = judged.references[verdict.first_failing], judged.answers[verdict.first_failing]
    weights = [each.message for each in verdict.findings if each.what == QUANTIZED_WEIGHTS and not each.passed]
    if weights and all(each.passed for each in verdict.comparisons):
        return replace(result, blame="exporter", evidence=tuple(weights))
    if reference.is_on_own_state and not weights:
        return replace(result, evidence=(ERRORS_ADD_UP,))
    evidence: tuple[str, ...] = ()
    if not prepared.case.is_recorded:  # a bundle does not hold the files before each transform
        evidence = transform_to_blame(target, partial(_problem_on, prepared, judged.samples, reference.at))
    if evidence or weights:
        return replace(result, blame="exporter", evidence=(*evidence, *weights))
    disagreement = _disagreement(prepared, target, reference, answer)
    return _with_blame(result, disagreement, judged.kept)


def _problem_on(prepared: CaseContext, samples: SampleOutcome | None, at: str | None, target: Target) -> str | None:
    """What is wrong with the answer of ``target`` at the set of inputs that ``at`` names; None if nothing is."""
    reference = next((each for each in prepared.references_for(target) if each.at == at), None)
    if reference is None and samples is not None and samples.worst is not None:
        reference = samples.worst(target)
    reference = reference or prepared.references_for(target)[0]
    artifact = prepared.artifact(target)
    session: Session = plugins("runtimes")[target.runtime].load(artifact, target.options)
    try:
        answer = reference.comparable_part(session.run(reference.inputs))
    finally:
        session.close()
    comparison = compare_with_reference(answer, reference, prepared.tolerance(artifact.opset, target))
    return None if comparison.passed else comparison.message


def _disagreement(prepared: CaseContext, target: Target, reference: Reference, answer: Answer) -> Disagreement:
    artifact = prepared.artifact(target.in_onnx)  # where the target's own file cannot be read, the same graph
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
