"""What the other targets made of the same case, those that were asked for and the witnesses.

Which further targets could tell most about a disagreement on an ONNX path: the other exporter, and another opset.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.result import Result
from harness.spec.language.case import Case, PackedModel
from harness.spec.targets import Target

GOOD, BAD = {"passed", "fixed"}, {"failed", "error", "known"}


def with_elsewhere(results: Sequence[Result], witnesses: Sequence[Result] = ()) -> tuple[Result, ...]:
    """``results``, where each that disagrees also says on which targets its case passes and on which it does not."""
    by_case: dict[str, list[Result]] = defaultdict(list)
    for result in (*results, *witnesses):
        by_case[result.case].append(result)
    return tuple(_told(result, by_case[result.case]) for result in results)


def _told(result: Result, siblings: Sequence[Result]) -> Result:
    if result.status not in BAD or result.symptom != "mismatch":
        return result
    others = [other for other in siblings if other.target != result.target]
    passing = [other.target for other in others if other.status in GOOD]
    failing = [f"{other.target} ({other.stage}: {other.symptom})" for other in others if other.status in BAD]
    said = [f"the same case passes on {', '.join(passing)}"] if passing else []
    said += [f"it fails as well on {', '.join(failing)}"] if failing else []
    return replace(result, evidence=(*result.evidence, *said))


OPSETS: Mapping[str, tuple[int, ...]] = {"onnx-torchscript": (13, 17, 20), "onnx-dynamo": (18, 20, 23)}
"""Opsets of each exporter between which operators changed in what these layers need."""

SETTLED = frozenset({"rounding", "torch", "spec"})
"""What no other export could say more about."""

MOST = 20
"""So many cases of a run are looked into further: where more fail, one reason has many of them."""

Work = tuple[tuple[Case, tuple[Target, ...]], ...]


def witnesses(asked: Work, results: Sequence[Result]) -> Work:
    """The checks that nobody asked for and that are evidence: of each disagreement that is not expected, its own."""
    open_cases = dict.fromkeys(
        result.case
        for result in results
        if (result.status, result.symptom) == ("failed", "mismatch") and result.blame not in SETTLED
    )
    failing = {(result.case, result.target) for result in results if result.status == "failed"}
    work = []
    for case, targets in asked:
        if case.id in open_cases:
            wrong = [target for target in targets if (case.id, str(target)) in failing]
            further = {
                str(other): other for target in wrong for other in _further(target, targets) if can_be_had(case, other)
            }
            work.append((case, tuple(further.values())))
    return tuple((case, targets) for case, targets in work if targets)[:MOST]


def can_be_had(case: Case, target: Target) -> bool:
    """Whether the export of ``target`` can be had: what was packed holds no others."""
    model = case.model.model
    return not isinstance(model, PackedModel) or target.export in model.entry.exports


def _further(target: Target, asked: Sequence[Target]) -> Iterator[Target]:
    """The other exporter, and another opset of the same, where none of those that were asked for is one."""
    if target.exporter not in OPSETS or target.opset is None:
        return
    stock = [other for other in asked if not other.fixes and other.exporter in OPSETS]
    if not any(other.exporter != target.exporter for other in stock):
        (exporter,) = OPSETS.keys() - {target.exporter}
        yield _at(target, exporter, [opset for opset in OPSETS[exporter] if opset <= target.opset][-1:])
    if not any(other.exporter == target.exporter and other.opset != target.opset for other in stock):
        yield _at(target, target.exporter, [opset for opset in OPSETS[target.exporter] if opset != target.opset][-1:])


def _at(target: Target, exporter: str, opsets: Sequence[int]) -> Target:
    return replace(target, exporter=exporter, opset=next(iter(opsets), OPSETS[exporter][0]), fixes=False)
