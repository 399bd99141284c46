"""Results of a failing case on other targets, as evidence for the blame: which targets, and what they show.

:func:`evidence_checks` chooses further targets for a disagreement on an ONNX path that were not requested: the other
exporter, and another opset of the same exporter. :func:`with_other_targets` adds to each disagreement on which other
targets its case passes and fails. :func:`other_targets` are those that ``harness explain`` runs, and
:func:`transform_to_blame` runs the file after each of its transforms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.registry import plugins
from harness.result import Result
from harness.spec.bundle.entries import PackedModel
from harness.spec.language.case import Case
from harness.spec.targets import FILE, Target, runs_format

Work = tuple[tuple[Case, tuple[Target, ...]], ...]

EVIDENCE_OPSETS: Mapping[str, tuple[int, ...]] = {"onnx-torchscript": (13, 17, 20), "onnx-dynamo": (18, 20, 23)}
"""Opsets of each exporter between which the operators that these layers need changed."""

DECIDED_BLAMES = frozenset({"rounding", "torch", "spec"})
"""Blames to which no other export could add evidence."""

MAX_CASES = 20
"""The maximum number of cases with evidence checks in a run. If more cases fail, many of them share one cause."""

PASSING, FAILING = {"passed", "fixed"}, {"failed", "error", "known"}


def evidence_checks(requested: Work, results: Sequence[Result]) -> Work:
    """Checks beyond the ``requested`` ones that add evidence to the unexpected disagreements in ``results``."""
    undecided_cases = dict.fromkeys(
        result.case
        for result in results
        if (result.status, result.symptom) == ("failed", "mismatch") and result.blame not in DECIDED_BLAMES
    )
    failing = {(result.case, result.target) for result in results if result.status == "failed"}
    work = []
    for case, targets in requested:
        if case.id in undecided_cases:
            failing_targets = [target for target in targets if (case.id, str(target)) in failing]
            further = {
                str(other): other
                for target in failing_targets
                for other in _other_exports(target, targets)
                if has_export(case, other)
            }
            work.append((case, tuple(further.values())))
    return tuple((case, targets) for case, targets in work if targets)[:MAX_CASES]


def has_export(case: Case, target: Target) -> bool:
    """True if the case can be exported for ``target``. A packed case has only the exports in its bundle."""
    model = case.model.model
    return not isinstance(model, PackedModel) or target.export in model.entry.exports


def _other_exports(target: Target, requested: Sequence[Target]) -> Iterator[Target]:
    """The other exporter, and another opset of the same exporter, unless a requested target is one already."""
    if target.exporter not in EVIDENCE_OPSETS or target.opset is None:
        return
    stock = [
        other
        for other in requested
        if not other.fixes and not other.export_options and other.exporter in EVIDENCE_OPSETS
    ]
    if not any(other.exporter != target.exporter for other in stock):
        (exporter,) = EVIDENCE_OPSETS.keys() - {target.exporter}
        opsets = [opset for opset in EVIDENCE_OPSETS[exporter] if opset <= target.opset]
        yield _stock_target(target, exporter, opsets)
    if not any(other.exporter == target.exporter and other.opset != target.opset for other in stock):
        opsets = [opset for opset in EVIDENCE_OPSETS[target.exporter] if opset != target.opset]
        yield _stock_target(target, target.exporter, opsets)


def _stock_target(target: Target, exporter: str, opsets: Sequence[int]) -> Target:
    """``target`` as a stock export by ``exporter`` at the last of ``opsets``, or its first opset if there are none."""
    opset = opsets[-1] if opsets else EVIDENCE_OPSETS[exporter][0]
    return replace(target, exporter=exporter, opset=opset, fixes=False, export_options={})


def with_other_targets(results: Sequence[Result], further: Sequence[Result] = ()) -> tuple[Result, ...]:
    """``results``, with evidence in each disagreement about the other targets on which its case passes and fails.

    ``further`` are the results of :func:`evidence_checks`; they add evidence and no rows.
    """
    by_case: dict[str, list[Result]] = defaultdict(list)
    for result in (*results, *further):
        by_case[result.case].append(result)
    return tuple(_with_evidence(result, by_case[result.case]) for result in results)


def _with_evidence(result: Result, same_case: Sequence[Result]) -> Result:
    if result.status not in FAILING or result.symptom != "mismatch":
        return result
    others = [other for other in same_case if other.target != result.target]
    passing = [other.target for other in others if other.status in PASSING]
    failing = [f"{other.target} ({other.stage}: {other.symptom})" for other in others if other.status in FAILING]
    evidence = [f"the same case passes on {', '.join(passing)}"] if passing else []
    evidence += [f"the same case also fails on {', '.join(failing)}"] if failing else []
    return replace(result, evidence=(*result.evidence, *evidence))


def transform_to_blame(target: Target, problem_of: Callable[[Target], str | None]) -> tuple[str, ...]:
    """The evidence that a transform of ``target`` changed the result; empty if the file was wrong before them all.

    ``problem_of`` runs the file of a target with fewer transforms, on the same runtime, and says what is wrong with its
    answer; None if nothing is.
    """
    if not target.transforms or problem_of(target.untransformed) is not None:
        return ()
    runtime = target.runtime
    for count, word in enumerate(target.transforms[:-1], start=1):
        problem = problem_of(target.with_first_transforms(count))
        if problem is not None:
            return (f"on {runtime}, the file agrees before +{word}, and not after it: {problem}",)
    return (f"on {runtime}, the file agrees before +{target.transforms[-1]}, and not after it",)


def other_targets(target: Target, format_: str | None = None) -> tuple[Target, ...]:
    """Targets that differ from ``target`` in one thing, so that their results narrow down its failure.

    They are the other exporters and opsets, the corrected lowerings, and the other runtimes that are available and run
    ``format_``, the format of the target's file, which only the case of a file under test knows.
    """
    format_ = format_ or _made_format(target)
    return tuple({str(other): other for other in _candidates(target, format_) if str(other) != str(target)}.values())


def _candidates(target: Target, format_: str) -> Iterator[Target]:
    if target.exports:
        yield from _exports_beside(target, format_)
    for name, runtime in plugins("runtimes").items():
        if name != target.runtime and runs_format(runtime, format_) and runtime.availability().present:
            yield replace(target, runtime=name, options={})


def _exports_beside(target: Target, format_: str) -> Iterator[Target]:
    for name, exporter in plugins("exporters").items():
        if exporter.makes != format_:
            continue
        opsets: tuple[int | None, ...] = EVIDENCE_OPSETS.get(name, (None,))
        yield from (replace(target, exporter=name, opset=opset, fixes=False) for opset in opsets)
    yield replace(target, fixes=not target.fixes)


def format_of(case: Case, target: Target) -> str:
    """The format of the target's file."""
    if target.tested_file is not None:
        return case.files[target.tested_file].format
    return _made_format(target)


def _made_format(target: Target) -> str:
    return "onnx" if target.exporter == FILE else str(plugins("exporters")[target.exporter].makes)
