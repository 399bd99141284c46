"""What the other targets made of the same case, those that were asked for and the witnesses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from harness.result import Result

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
