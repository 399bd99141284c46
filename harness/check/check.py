"""One check: export, load, run, compare, time. Whatever happens becomes a :class:`Result`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from harness.blame.attribute import RANDOM_EVIDENCE, SAMPLE_EVIDENCE, attribute
from harness.blame.disagreement import Disagreement
from harness.blame.file_runs import STAGES_OF_THE_RUNTIME, attribute_stopped
from harness.blame.other_targets import transform_to_blame
from harness.check.case_context import CaseContext
from harness.check.judging.example_values import KeptValue, find_kept_value, kept_value, stopped_at_others
from harness.check.judging.judge import Answer, Verdict, have_same_form, meets_expectations, run_twice
from harness.check.judging.layers import with_layers
from harness.check.judging.lower_precision import missing_precision, reference_for, reference_precision
from harness.check.judging.steps import ERRORS_ADD_UP, departure, loses_state, run_in_a_row, run_on_own_state
from harness.check.refusal import check_refusal
from harness.check.results import (
    LOST_STATE,
    Progress,
    blame_for_build,
    initial_result,
    placement_fields,
    with_error,
    with_latency,
    with_samples,
    with_verdict,
)
from harness.check.samples.run import SampleOutcome, run_samples
from harness.check.settings import Settings
from harness.check.stages import Clock, StageStopped
from harness.compare.decisions import require_axes
from harness.compare.inconclusive import (
    EXPORT_AGAIN,
    WITHOUT_OPTION,
    with_cause,
    with_training_export,
    with_training_mode,
)
from harness.compare.verdict import compare_with_reference
from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.registry import plugins
from harness.reproduction import reproduction
from harness.result import Finding, Result
from harness.runtimes import Session
from harness.spec.language.case import RecordedModel, TensorSpec
from harness.spec.language.tolerances import Tolerance, pooled
from harness.spec.targets import Target


def check_with_script(prepared: CaseContext, target: Target, settings: Settings, clock: Clock) -> Result:
    """As :func:`check`; a failure comes with a script that shows it without harness. The script is not run."""
    result = check(prepared, target, settings, clock)
    if result.status not in {"failed", "error"}:
        return result
    script = reproduction(prepared.case, target, result, lambda: prepared.references[0], settings.strict_ulp)
    return replace(result, reproduction=script)


def check(prepared: CaseContext, target: Target, settings: Settings, clock: Clock) -> Result:
    """The result of the case on ``target``. An exception of a library becomes an error of its stage."""
    result = initial_result(prepared.case, target, clock)
    if result.status == "skipped":
        return result
    if (raises := prepared.case.expect.raises) is not None:
        return check_refusal(prepared.refusal(result, clock), raises, target, clock)
    progress = Progress(result)
    try:
        result = _checked(prepared, target, settings, progress, clock)
    except StageStopped as stop:
        result = _with_stop(progress.result, stop, prepared, target, clock)
    if result.stage not in {"build", "export"} and (prepared.case.files or "training" in target.export_options):
        file, operators = prepared.exported_in_training(target)
        if operators:
            result = with_training_export(result, file, operators, WITHOUT_OPTION if target.exports else EXPORT_AGAIN)
    if result.stage == "build":  # what cannot be called is called in evaluation mode
        clock.keep(result, before="blame")
    words = None if result.symptom == "out-of-memory" else prepared.training
    return result if words is None else with_training_mode(result, words)


@dataclass(frozen=True, slots=True)
class _JudgedAnswers:
    """The answers of a target with their references and the verdict on them.

    ``tolerance`` is that of a single answer. ``kept`` is a value of the example inputs that the export keeps;
    ``samples`` is the outcome of those that were run one by one, ``weights`` are findings about quantized weights.
    """

    tolerance: Tolerance
    references: Sequence[Reference]
    answers: Sequence[Answer]
    verdict: Verdict
    kept: KeptValue | None = None
    samples: SampleOutcome | None = None
    weights: Sequence[Finding] = ()

    @property
    def complete_verdict(self) -> Verdict:
        """The verdict on the answers and on the weights of a quantized file."""
        return replace(self.verdict, findings=(*self.verdict.findings, *self.weights)) if self.weights else self.verdict

    def with_further(
        self, reference: Reference, answer: Answer, tolerance: Tolerance, stopped: str | None = None
    ) -> _JudgedAnswers:
        """The same with one more answer, judged under ``tolerance``. ``stopped`` says why there is none."""
        verdict = self.verdict.with_further(reference, answer, tolerance, stopped)
        references, answers = [*self.references, reference], [*self.answers, answer]
        return replace(self, references=references, answers=answers, verdict=verdict)

    def with_samples(self, samples: SampleOutcome, target: Target, session: Session) -> _JudgedAnswers:
        """The same with ``samples``, and with the answer to the worst of them if it is the first that is wrong.

        That one is judged by the rules for a single sample, so that it can be explained like any other answer.
        """
        judged = replace(self, samples=samples)
        if samples.worst is None or not self.verdict.passed:
            return judged
        reference = samples.worst(target)
        answer = reference.comparable_part(session.run(reference.inputs))
        return judged.with_further(reference, answer, self.tolerance)


def _checked(prepared: CaseContext, target: Target, settings: Settings, progress: Progress, clock: Clock) -> Result:
    with clock.stage("build"):
        references, eager_findings = prepared.references_for(target), prepared.eager_findings
        require_axes(prepared.case.tolerance, references[0].eager)
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
                references, answers, varies = _run(references, session, open_session)
        finally:
            with clock.stage("run"):
                progress.add(**placement_fields(session.placement(), passed=True))
        with clock.stage("compare"):
            judged = _judged(prepared, target, artifact, session, references, answers, varies=varies)
            if (is_file := target.tested_file is not None) or target.transforms:
                judged = _with_weights(judged, prepared, target, progress)
        if prepared.case.data is not None and have_same_form(answers[0], references[0].eager):
            reference_of, tolerance = partial(_sample_reference, prepared), judged.tolerance.map(pooled)
            samples = run_samples(
                prepared.case, target, session, references[0], reference_of, tolerance, artifact.digest, settings, clock
            )
            progress.add(samples=samples.summary)
            with clock.stage("compare"):
                judged = judged.with_samples(samples, target, session)
        cause = None if judged.verdict.passed else _cause(judged, prepared)
        others = partial(prepared.further_inputs, {"alike"})
        result = with_verdict(progress.result, prepared.case, judged.complete_verdict, eager_findings, cause, others)
        if judged.samples is not None:
            result = with_samples(result, judged.samples)
        if result.symptom == "placement":
            return result
        if result.status == "failed" or settings.layers:
            clock.keep(result, before="layers")
            first = judged.references[judged.verdict.first_failing]
            with clock.stage("compare"):
                inside, so_far = prepared.reference_inside, sum(clock.seconds.values())
                result = with_layers(result, prepared.case, inside, target, artifact, first, session, settings, so_far)
        if result.status == "failed" and result.blame is None and not result.layers_alone:
            clock.keep(result, before="blame")
            blame = _blamed_weights if any(not each.passed for each in judged.weights) else _blamed
            return prepared.with_weights(blame(result, judged, prepared, target, artifact), target)
        if result.status == "passed" and is_file:
            clock.keep(result, before="weights")
            result = prepared.with_weights(result, target)
        if settings.latency and result.status == "passed":
            return with_latency(result, session, references[0].inputs, prepared.eager_call, clock, settings)
        return result
    finally:
        session.close()


def _run(
    references: Sequence[Reference], session: Session, open_session: Callable[[], Session]
) -> tuple[list[Reference], list[Answer], bool]:
    """The references with the target's answers: to the inputs of each, then to those that follow other calls."""
    called, answers, varies = run_twice(references, session, open_session)
    in_a_row, row_answers = run_in_a_row(references, open_session)
    on_own_state, own_answers = run_on_own_state(references, session.run)
    return [*called, *in_a_row, *on_own_state], [*answers, *row_answers, *own_answers], varies


def _cause(judged: _JudgedAnswers, prepared: CaseContext) -> str | None:
    """Why a target fails that agrees at the first inputs, as far as it is known."""
    departed, kept = departure(judged.verdict.comparisons), judged.kept
    lost = loses_state(judged.references, judged.answers, judged.verdict.first_failing, prepared.eager_answer)
    causes = [departed] if departed is not None else [LOST_STATE] if lost else []
    causes += [kept.cause] if kept is not None and (kept.is_known or departed is None) else []
    return "; ".join(causes) or None


def _judged(
    prepared: CaseContext,
    target: Target,
    artifact: Artifact,
    session: Session,
    references: Sequence[Reference],
    answers: Sequence[Answer],
    *,
    varies: bool,
) -> _JudgedAnswers:
    """The answers to the case's own inputs, and to others that a model may treat in another way."""
    of_one = prepared.tolerance(artifact.opset, target)
    tolerance = of_one if prepared.case.data is None else of_one.map(pooled)
    verdict = prepared.judge.verdict(references, prepared.expected, answers, tolerance, session)
    if references[0].stochastic:
        # In training mode an exporter may leave the noise out on purpose; its note says so. A bundle has no mode.
        keeps_random = not varies and prepared.case.mode == "eval" and not prepared.case.is_recorded
        verdict = replace(verdict, keeps_random=keeps_random, unrepeatable=references[0].unrepeatable)
    judged = _JudgedAnswers(of_one, references, answers, verdict)
    if verdict.passed:
        # Modules of users branch on values, in a bundle too, and files may. `draws: 1` asks for no further inputs.
        may_branch = prepared.case.runs_user_code or isinstance(prepared.case.model.model, RecordedModel)
        may_branch = may_branch or bool(prepared.case.files and target.tested_file)
        if prepared.case.draws == 1 or not may_branch:
            return judged
        failed = find_kept_value(
            target, artifact, session, references, of_one, prepared.further_inputs, prepared.exported_from
        )
        if failed is None:
            return judged
        further = judged.with_further(failed.reference, failed.answer, tolerance, failed.stopped)
        return replace(further, kept=failed.kept)
    if verdict.fails_after_first_call and not references[verdict.first_failing].is_on_own_state:
        reference = references[verdict.first_failing]
        return replace(judged, kept=kept_value(target, artifact, reference, of_one, prepared.exported_from))
    return judged


def _with_weights(judged: _JudgedAnswers, prepared: CaseContext, target: Target, progress: Progress) -> _JudgedAnswers:
    """``judged`` with the quantized weights of the file beside the float weights."""
    weights = prepared.quantized_weights(target)
    progress.add(notes=(*progress.result.notes, *weights.notes))
    return replace(judged, weights=weights.findings)


def _sample_reference(prepared: CaseContext, name: str, inputs: tuple[TensorSpec, ...], target: Target) -> Reference:
    at = f"sample {name}"
    return reference_for(target, prepared.sample_reference(inputs, at, reference_precision(target)))


def _blamed(
    result: Result, judged: _JudgedAnswers, prepared: CaseContext, target: Target, artifact: Artifact
) -> Result:
    """The failed ``result`` with the step to blame, as far as the evidence shows one."""
    if judged.verdict.keeps_random:
        return replace(result, blame="exporter", evidence=(RANDOM_EVIDENCE,))
    if (reason := prepared.unfit_reference) is not None:
        return with_cause(result, reason)
    if judged.samples is not None and judged.verdict.passed:  # only their sum is wrong, and no answer shows why
        return result
    index = judged.verdict.first_failing
    reference, answer, kept = judged.references[index], judged.answers[index], judged.kept
    if reference.is_on_own_state:
        return replace(result, evidence=(ERRORS_ADD_UP,))
    tolerance = judged.tolerance
    if target.transforms:
        if evidence := _transform_evidence(judged, prepared, target):
            return replace(result, blame="exporter", evidence=evidence)
        artifact = prepared.artifact(target.in_onnx)  # where the target's own file cannot be read, the same graph
        tolerance = prepared.tolerance(artifact.opset, target)
    if reference.sample is not None:
        return replace(result, evidence=(SAMPLE_EVIDENCE,))
    if kept is not None and (kept.proven or kept.stopped):
        return replace(result, blame="exporter" if kept.proven else None, evidence=kept.evidence)
    if reference.undecidable is not None:
        return replace(result, evidence=(reference.undecidable,))
    is_expected = partial(meets_expectations, prepared.expected, reference, tolerance)
    eager = prepared.eager_answer if prepared.case.runs_user_code else None
    whose = "the reference" if prepared.case.files else "eager torch"  # which may be another file
    blame, evidence = attribute(Disagreement(target, artifact, reference, answer, tolerance, is_expected, eager, whose))
    return replace(result, blame=blame, evidence=(*evidence, *(kept.evidence if kept is not None else ())))


def _blamed_weights(
    result: Result, judged: _JudgedAnswers, prepared: CaseContext, target: Target, _artifact: Artifact
) -> Result:
    """The failed ``result`` of a quantized file whose weights are wrong by themselves, whatever its outputs show."""
    evidence = () if judged.verdict.passed else _transform_evidence(judged, prepared, target)
    weights = (each.message for each in judged.weights if not each.passed)
    return replace(result, blame="exporter", evidence=(*evidence, *weights))


def _transform_evidence(judged: _JudgedAnswers, prepared: CaseContext, target: Target) -> tuple[str, ...]:
    """The evidence that a transform changed the result; none from a bundle, which lacks the files before each."""
    if isinstance(prepared.case.model.model, RecordedModel):
        return ()
    at = judged.references[judged.verdict.first_failing].at
    return transform_to_blame(target, partial(_problem_on, prepared, judged.samples, at))


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


def _with_stop(result: Result, stop: StageStopped, prepared: CaseContext, target: Target, clock: Clock) -> Result:
    """``result`` as the error of the stage, with graph optimization blamed if the file runs without it."""
    if stop.stage not in STAGES_OF_THE_RUNTIME:
        return with_error(result, stop, blame=blame_for_build(stop) if stop.stage == "build" else None)
    clock.keep(with_error(result, stop), before="blame")
    artifact = prepared.artifact(target)
    if stop.stage == "run":
        tolerance, references = prepared.tolerance(artifact.opset, target), prepared.references_for(target)
        stopped = stopped_at_others(target, artifact, references, tolerance, prepared.exported_from)
        if stopped is not None:
            at, kept = stopped
            stop = replace(stop, message=f"{kept.cause}: at {at}: {stop.message}")
            return replace(with_error(result, stop, blame="exporter" if kept.proven else None), evidence=kept.evidence)
    if stop.symptom == "unsupported" and (reason := missing_precision(prepared.artifact, target)) is not None:
        return with_error(result, replace(stop, message=f"{stop.message}; {reason}"))

    def gives_expected(session: Session) -> bool:
        tolerance, references = prepared.tolerance(artifact.opset, target), prepared.references_for(target)
        answers = [(each, each.comparable_part(session.run(each.inputs))) for each in references]
        return all(compare_with_reference(answer, each, tolerance).passed for each, answer in answers)

    blame, evidence = attribute_stopped(target, artifact, stop.symptom, gives_expected)
    return replace(with_error(result, stop, blame=blame), evidence=evidence)
