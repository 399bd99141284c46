"""Build the result of a check: each function adds one part, from the first form to pictures and latency."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain, islice, zip_longest
from traceback import walk_tb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.blame.file_runs import SYMPTOMS_OF_THE_FILE
from harness.check.judging.example_values import OtherInputs
from harness.check.judging.judge import MET_IN_FLOAT64, Answer, ComparedAnswer, Verdict, have_same_form
from harness.check.judging.layers import is_whole_model
from harness.check.judging.steps import agreement, first_departures, step_rows
from harness.check.samples.run import SampleOutcome
from harness.check.settings import Settings
from harness.check.stages import Clock, StageStopped, is_from_code_under_test, message_of
from harness.compare.inconclusive import NO_ELEMENTS, with_cause, with_reason
from harness.compare.numbers import same_bits
from harness.compare.pictures import pictures
from harness.compare.verdict import Comparison, exchanged_outputs
from harness.errors import RequestError
from harness.latency import smoke_timing
from harness.latency.sampling import Call
from harness.model.answer import is_second_call
from harness.registry import plugins
from harness.result import QUANTIZED_WEIGHTS, Blame, Finding, Result
from harness.runtimes import Availability, Placement, Session
from harness.spec.language.case import Case
from harness.spec.targets import Target

Array = NDArray[Any]

MAX_PICTURES = 4
"""Pictures kept per check. A report holds thousands of checks."""
VALUE_FINDINGS = ("outputs", "range", "formula", "equals", "differs_from")
"""Keys of ``expect`` that compare the values of outputs."""
CODE_OF_THE_SPEC = frozenset(
    {
        ("harness.model.build", "build_tensors"),
        ("harness.model.build", "build_module"),
        ("torch.nn.modules.module", "_call_impl"),
    }
)
"""Functions, by module and name, that run what the spec names: they build its tensors and module, or call the module.
"""
NOTHING_COMPARED = (
    "nothing was compared: the module is stochastic (it may be in training mode: call .eval()), so its outputs cannot "
    "be compared with eager torch's; say under `expect` what must hold"
)

LOST_STATE = "the module keeps state between calls, and the export does not keep the same"
KEEPS_RANDOM = (
    "the module draws random numbers at each call, and the export gives the same answer at each: it keeps the numbers "
    "of one call, or leaves the drawing out"
)
CONSTANT = "the outputs are the same at every set of inputs: a file that ignores its inputs would pass too"
CONSTANT_AT_OTHERS = (
    "the reference's outputs are the same at other inputs: a file that ignores its inputs would pass too"
)
ALL_ZERO = "every output is zero: a file that only gives zeros would pass too"


class Progress:
    """The result so far. It stays available if a stage does not finish."""

    def __init__(self, result: Result) -> None:
        self.result = result

    def add(self, **fields: Any) -> None:
        """Set ``fields`` of the result."""
        self.result = replace(self.result, **fields)


def initial_result(case: Case, target: Target, clock: Clock) -> Result:
    """The result before anything ran: passed, or skipped if the runtime is not available on this machine."""
    result = Result(case.id, str(target), "passed", seconds=clock.seconds, where=str(case.where))
    available = _availability(target.runtime)
    if available.present:
        return result
    message = available.unavailable_message(target.runtime)
    return replace(result, status="skipped", stage="load", symptom="unavailable", message=message)


def with_error(result: Result, stop: StageStopped, *, blame: Blame | None = None) -> Result:
    """``result`` as the error of a stage that did not finish."""
    return replace(result, status="error", stage=stop.stage, symptom=stop.symptom, message=stop.message, blame=blame)


def blame_for_build(stop: StageStopped) -> Blame | None:
    """``spec`` if the module or its inputs cannot be built, or if the module's own call raises; else None.

    Whatever else fails at this stage is harness's own preparation, such as a copy of the module: nobody is blamed for
    it, nor for a lack of memory.
    """
    if isinstance(stop.cause, RequestError):
        return "spec"
    frames = {(frame.f_globals.get("__name__"), frame.f_code.co_name) for frame, _ in walk_tb(stop.cause.__traceback__)}
    return "spec" if stop.symptom in SYMPTOMS_OF_THE_FILE and frames & CODE_OF_THE_SPEC else None


def with_mismatch(result: Result, problems: Iterable[str], *, blame: Blame | None = None) -> Result:
    """``result`` as a failure with ``problems``, which the comparison found."""
    message = "; ".join(problems)
    return replace(result, status="failed", stage="compare", symptom="mismatch", message=message, blame=blame)


def with_verdict(
    result: Result,
    case: Case,
    verdict: Verdict,
    eager_findings: Sequence[Finding],
    cause: str | None = None,
    others: Callable[[], Iterable[OtherInputs]] = tuple,
) -> Result:
    """``result`` of ``case`` with the numbers, the pictures and the status of ``verdict``.

    If eager torch itself does not meet the spec's expectations or the float64 reference, that is what is reported.
    ``cause`` is why a target fails that agrees at the first inputs. ``others`` gives inputs like the first ones, which
    are tried if there is no further draw, to find outputs that do not depend on the inputs.
    """
    comparisons = verdict.comparisons
    findings = (*verdict.findings, *_against_float64(eager_findings))
    result = replace(with_numbers(result, comparisons), findings=findings, distances=verdict.distances)
    result = with_pictures(result, verdict.compared)
    eager_problems = [
        f"eager torch itself, {finding.what}: {finding.message}" for finding in eager_findings if not finding.passed
    ]
    if eager_problems:
        unmet = {finding.what for finding in eager_findings if not finding.passed} - {"float64_reference"}
        of_torch = any(not finding.passed for finding in _against_float64(eager_findings)) or unmet <= _met_in_float64(
            eager_findings
        )
        failed = with_mismatch(result, eager_problems, blame="torch" if of_torch else "spec")
        return replace(failed, evidence=_eager_evidence(eager_findings))
    result = replace(result, steps=step_rows(comparisons))
    if (note := agreement(comparisons)) is not None:
        result = replace(result, notes=(*result.notes, note))
    problems = failures(first_departures(comparisons))
    problems += [f"{_place(finding)}: {finding.message}" for finding in verdict.findings if not finding.passed]
    if verdict.keeps_random:
        kept = f"{verdict.unrepeatable}; the export gives the same answer at each call"
        problems.insert(0, kept if verdict.unrepeatable else KEEPS_RANDOM)
    compared_values = comparisons or any(finding.what in VALUE_FINDINGS for finding in verdict.findings)
    if not problems and not compared_values:
        why = f"nothing was compared: {verdict.unrepeatable}; say under `expect` what must hold"
        problems = [why if verdict.unrepeatable else NOTHING_COMPARED]
    if not problems:
        known = any(output.inconclusive for output in result.outputs)
        reason = None if known else _constant_outputs(case, verdict.compared, others)
        return result if reason is None else with_reason(result, reason)
    failed = with_mismatch(result, problems)
    first = verdict.compared[verdict.first_failing] if comparisons else None
    if first is not None:
        is_later = is_second_call(first.comparison.at)
        cause = LOST_STATE if is_later else cause or exchanged_outputs(first.actual, first.expected)
    return failed if cause is None else with_cause(failed, cause)


def _place(finding: Finding) -> str:
    return "quantized weights" if finding.what == QUANTIZED_WEIGHTS else f"expect.{finding.what}"


def with_samples(result: Result, samples: SampleOutcome) -> Result:
    """``result`` with what is wrong with all samples together, and with the reason why a pass says little."""
    if samples.problems:
        blame, evidence = result.blame, result.evidence
        problems = [*samples.problems, *([result.message] if result.message else [])]
        return replace(with_mismatch(result, problems, blame=blame), evidence=evidence)
    return with_reason(result, samples.inconclusive)


def _constant_outputs(
    case: Case, compared: Sequence[ComparedAnswer], others: Callable[[], Iterable[OtherInputs]]
) -> str | None:
    """Why the pass of a whole model is inconclusive whose outputs do not depend on its inputs; None if they do."""
    values = [output for each in compared for output in each.expected.values() if output.size]
    if not values or not is_whole_model(case):
        return None
    if case.runs_user_code and not any(map(np.any, values)):
        return ALL_ZERO
    first, *further = (each for each in compared if not is_second_call(each.comparison.at))
    drawn = [each.expected for each in further if each.comparison.repeats_shapes]
    if drawn:
        return CONSTANT if all(_is_same(each, first.expected) for each in drawn) else None
    if case.draws == 1 or case.data is not None or not case.runs_user_code:
        return None
    given = [each.expected for each in further if have_same_form(each.expected, first.expected)]
    is_constant = False
    for answer in chain(given, (each.eager for each in others())):
        if not _is_same(answer, first.expected):
            return None
        is_constant = True
    return CONSTANT_AT_OTHERS if is_constant else None


def _is_same(answer: Answer, first: Answer) -> bool:
    """True if the outputs are the same to the last bit, whatever their names."""
    pairs = list(zip_longest(answer.values(), first.values()))
    return all(one is not None and other is not None and same_bits(one, other) for one, other in pairs)


def with_numbers(result: Result, comparisons: Sequence[Comparison]) -> Result:
    """``result`` with the numbers and notes of the comparisons.

    An output that is empty at one set of inputs and not at another is not inconclusive for it.
    """
    seen = {output.index for comparison in comparisons for output in comparison.outputs if 0 not in output.shape}
    outputs = tuple(
        replace(output, inconclusive=None) if output.inconclusive == NO_ELEMENTS and output.index in seen else output
        for comparison in _kept(comparisons)
        for output in comparison.outputs
    )
    notes = [*result.notes, *(note for comparison in comparisons for note in comparison.notes)]
    return replace(result, outputs=outputs, notes=tuple(dict.fromkeys(notes)))


def _kept(comparisons: Sequence[Comparison]) -> Iterator[Comparison]:
    """The comparisons whose numbers are part of a result.

    A further draw at the same shapes, a second call or a further step says nothing new if it passes.
    """
    for comparison in first_departures(comparisons):
        if not comparison.passed or not comparison.repeats_shapes:
            yield comparison


def with_pictures(result: Result, compared: Iterable[ComparedAnswer]) -> Result:
    """``result`` with a picture of each output that differs, at most :data:`MAX_PICTURES`.

    The ``at`` of a picture names the input shapes.
    """
    drawn = (
        {**picture, "at": answer.comparison.at}
        for answer in compared
        for picture in pictures(answer.comparison.outputs, answer.actual, answer.expected, answer.undefined)
    )
    return replace(result, pictures=tuple(islice(drawn, MAX_PICTURES)))


def failures(comparisons: Iterable[Comparison]) -> list[str]:
    """The messages of the comparisons that do not pass."""
    return [comparison.message for comparison in comparisons if not comparison.passed]


def _eager_evidence(eager_findings: Sequence[Finding]) -> tuple[str, ...]:
    """The evidence for blaming torch or the spec: how eager torch compares with the spec and the float64 reference."""
    evidence = []
    unmet = [
        f"expect.{finding.what}"
        for finding in eager_findings
        if not finding.passed and finding.what != "float64_reference"
    ]
    if unmet:
        evidence.append(f"eager torch, before any export, does not meet the spec's {', '.join(unmet)}")
    against_float64 = _against_float64(eager_findings)
    if not all(finding.passed for finding in against_float64):
        evidence.append("eager torch, before any export, differs from the float64 reference by more than rounding")
    elif met := sorted(_met_in_float64(eager_findings)):
        keys = ", ".join(f"expect.{key}" for key in met)
        evidence.append(
            f"the float64 reference meets {keys}, and eager torch is further from it than torch.testing.assert_close "
            "allows, so eager torch is wrong: by a kernel, or by rounding where terms cancel"
        )
    elif against_float64:
        first = against_float64[0]  # without a comparison it only tells how large eager torch's rounding is
        agrees = "eager torch agrees with the float64 reference"
        evidence.append(first.message if first.comparison is None else agrees)
    return tuple(evidence)


def _met_in_float64(eager_findings: Sequence[Finding]) -> set[str]:
    """The keys of ``expect`` that the float64 reference meets although eager torch does not."""
    whats = (finding.what for finding in eager_findings)
    return {what.removeprefix(MET_IN_FLOAT64) for what in whats if what.startswith(MET_IN_FLOAT64)}


def _against_float64(eager_findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Eager torch's comparisons with the float64 reference, which are part of every result."""
    return tuple(finding for finding in eager_findings if finding.what == "float64_reference")


def placement_fields(placement: Placement | None, *, passed: bool) -> dict[str, Any]:
    """The fields of a result that say where its nodes ran.

    If nothing else failed (``passed``), nodes where the target does not allow them are a failure.
    """
    if placement is None:
        return {}
    fields = {"placement": {"asked": placement.asked, "nodes": placement.nodes, "stray": placement.stray}}
    if not placement.stray or not passed:
        return fields
    nodes = "1 node" if len(placement.stray) == 1 else f"{len(placement.stray)} nodes"
    message = f"{nodes} ran outside {placement.asked}: {', '.join(placement.stray)}"
    return {**fields, "status": "failed", "stage": "load", "symptom": "placement", "message": message}


def with_latency(
    result: Result,
    session: Session,
    inputs: Mapping[str, Array],
    baseline: Callable[[], Call | None],
    clock: Clock,
    settings: Settings,
) -> Result:
    """``result`` with the latency of ``session``, beside that of the call that ``baseline`` makes.

    A note says why a runtime that answers cannot be timed.
    """
    clock.keep(result, before="timing")
    try:
        latency = smoke_timing(session.bind(inputs), baseline=baseline())
    except BaseException as error:
        if not is_from_code_under_test(error):
            raise
        return replace(result, notes=(*result.notes, f"not timed: {message_of(error)}"))
    conditions = {**session.facts(), "concurrent_workers": settings.concurrent}
    first = {"load_s": clock.seconds["load"], "first_run_s": clock.seconds["run"]}
    return replace(result, latency={**latency.to_dict(), **first, **conditions})


@cache
def _availability(runtime: str) -> Availability:
    availability = plugins("runtimes")[runtime].availability()
    assert isinstance(availability, Availability)
    return availability
