"""What pytest shows of a check that is not as expected, and keeps of every check."""

from __future__ import annotations

from collections.abc import Iterator

from harness.report.advice import next_step
from harness.report.wording import comparisons, explanation, numbers, outcome, printable, telling
from harness.result import Result


def told(result: Result) -> str:
    """What a check came to, by how much and whose fault it is; then why, where it is written, and what to do next."""
    return "\n".join(map(printable, _lines(result)))


def _lines(result: Result) -> Iterator[str]:
    apart = [f"{label}: {numbers(held)}" for label, held in comparisons(result) if not held.passed]
    why = explanation(result)
    blame = f" (blame: {result.blame})" if result.blame else ""
    first, *rest = [*apart, why] if why else apart or [""]
    yield f"{outcome(result)}{blame}: {first}"
    yield from (f"  {line}" for line in (*rest, *result.evidence))
    if result.where:
        yield f"{result.where}: {result.case} on {result.target}"
    if step := next_step(result):
        yield step.sentence + (f":\n  {step.command}" if step.command else "")


def facts(result: Result) -> Iterator[tuple[str, object]]:
    """What a report of pytest's, such as its JUnit XML, keeps as properties."""
    yield "case", result.case
    yield "target", result.target
    yield from ((key, value) for key in ("status", "stage", "symptom", "blame") if (value := getattr(result, key)))
    if (most := telling(result)) is not None:
        for key in ("max_abs", "max_rel", "max_ulp"):
            if (size := getattr(most, key)) is not None:
                yield key, size
