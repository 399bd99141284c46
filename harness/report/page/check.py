"""One check as the page shows it: words and numbers as every other format says them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.report.advice import next_step
from harness.report.case_name import CaseName
from harness.report.page.figures import figures
from harness.report.wording import (
    comparisons,
    explanation,
    happened,
    index,
    number,
    numbers,
    one_line,
    printable,
    shortened,
    telling,
    value_at,
)
from harness.result import OutputComparison, Result, to_json

_LINE = 200
_TEXT = 1_200

Fields = dict[str, Any]


def fields(
    result: Result, heavy: Mapping[str, Any], *, allow_import: bool = False, bundle: str | None = None
) -> Fields:
    """What the page knows of ``result`` as JSON can hold it, in an order that is the same for all. None is nothing."""
    name = CaseName.parse(result.case)
    step = next_step(result, allow_import=allow_import, bundle=bundle)
    return {
        "case": result.case,
        "spec": name.spec,
        "family": name.family,
        "short": name.short,
        "target": result.target,
        "status": result.status,
        "stage": result.stage,
        "symptom": result.symptom,
        "happened": happened(result) or None,
        "line": _line(result),
        "message": None if result.message is None else _cut(result.message),
        "blame": result.blame,
        "evidence": list(map(_cut, result.evidence)) or None,
        "numbers": [_numbers(label, held) for label, held in comparisons(result)] or None,
        "findings": [[one.what, one.passed, _cut(one.message)] for one in result.findings] or None,
        "distances": [
            [str(one.index), number(one.eager_max_abs), number(one.target_max_abs), one.nearer]
            for one in result.distances
        ]
        or None,
        "placement": list(_placement(result.placement)) or None,
        "checker": None if result.checker is None else _cut(result.checker),
        "notes": list(map(_cut, result.notes)) or None,
        "reason": None if result.reason is None else _cut(result.reason),
        "issues": (result.issue or "").split() or None,
        "where": result.where,
        "next": None if step is None else [step.sentence, step.command],
        "apart": to_json(_apart(result)),
        "latency": to_json(figures(result.latency)),
        "seconds": {stage: to_json(float(f"{seconds:.3g}")) for stage, seconds in result.seconds.items()} or None,
        "artifact": result.artifact,
        **{key: heavy.get(key) for key in ("log", "script", "pictures", "left_out")},
    }


def _line(result: Result) -> str | None:
    """Why it is not a plain pass, on one line."""
    held = telling(result)
    if result.status == "passed":
        return None
    if held is not None and not held.passed:
        return shortened(numbers(held), _LINE)
    return shortened(explanation(result), _LINE) or None


def _numbers(label: str, held: OutputComparison) -> list[str | None]:
    """The rows of one output, in the order of :data:`NUMBERS`."""
    return [
        label,
        str(list(held.shape)),
        held.dtype,
        held.tolerance,
        f"{held.mismatched:,} of {held.of:,}",
        number(held.max_abs),
        number(held.max_rel),
        number(held.max_ulp),
        index(held.worst),
        value_at(held.actual_at_worst),
        value_at(held.expected_at_worst),
        number(held.least_rtol),
        number(held.least_atol),
        ", ".join(f"{name} {number(value)}" for name, value in held.extra.items()) or None,
        None if held.problem is None else one_line(_cut(held.problem)),
        held.blind,
    ]


NUMBERS = (
    "output", "shape", "dtype", "tolerance", "outside", "max abs", "max rel", "max ulp", "worst at", "got", "meant",
    "least rtol", "least atol", "further metrics", "problem", "blind",
)  # fmt: skip
"""What the rows of a check's numbers are called."""


def _placement(placement: Mapping[str, Any] | None) -> Iterator[str]:
    """Which provider ran how many nodes of which operator."""
    if placement is None:
        return
    if asked := placement.get("asked"):
        yield f"asked: {asked}"
    for provider, operators in (placement.get("nodes") or {}).items():
        yield f"{provider}: {', '.join(f'{name} {count}' for name, count in operators.items())}"
    if stray := placement.get("stray"):
        yield f"ran elsewhere than asked: {', '.join(map(str, stray))}"


def _apart(result: Result) -> list[float | None] | None:
    """The largest ULP, absolute and relative error over the outputs; None where no numbers were compared."""
    measures = [[held.max_ulp, held.max_abs, held.max_rel] for held in result.outputs]
    if not measures:
        return None
    columns = zip(*measures, strict=True)
    return [max((value for value in column if value is not None), default=None) for column in columns]


def _cut(text: str) -> str:
    """``text`` with its lines, cut where it is very long; the whole of it stands in report.json."""
    safe = printable(text.strip())
    return safe if len(safe) <= _TEXT else f"{safe[:_TEXT]} ..."
