"""Everything that one check says about itself, as Markdown blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.report.advice import next_step
from harness.report.markup import code, command, fenced, link, plain, table
from harness.report.wording import comparisons, explanation, happened, index, number, value_at
from harness.result import OutputComparison, Result

_LOG_LINES = 15


def details(result: Result, *, allow_import: bool = False, bundle: str | None = None) -> Iterator[str]:
    """One check in full: a heading, what is known, the numbers, and what to do next.

    ``allow_import`` says whether the run was allowed to run the specs' own code, ``bundle`` which bundle
    it was of, if of one.
    """
    yield f"### {result.status.upper()}: {code(result.case)} on {code(result.target)}"
    yield "\n".join(f"- {fact}" for fact in _facts(result, allow_import, bundle))
    if held := list(comparisons(result)):
        yield _numbers(held)
    if result.log:
        yield _log(result.log)


def _facts(result: Result, allow_import: bool, bundle: str | None) -> Iterator[str]:
    what = " ".join(part for part in (happened(result) + ".", explanation(result)) if part != ".")
    yield f"What: {plain(what) or result.status}"
    if result.blame:
        yield f"Blame: **{result.blame}**"
    yield from (f"Evidence: {plain(line)}" for line in result.evidence)
    for finding in result.findings:
        if not finding.passed:
            yield f"Expected by {code(finding.what)}: {plain(finding.message)}"
    for distance in result.distances:
        eager, target = number(distance.eager_max_abs), number(distance.target_max_abs)
        nearer = "neither is nearer" if distance.nearer == "neither" else f"{distance.nearer} is nearer"
        yield f"From the definition in float64, output {distance.index}: eager {eager}, target {target}; {nearer}"
    if result.placement and (stray := result.placement.get("stray")):
        yield f"Ran elsewhere than asked: {plain(', '.join(map(str, stray)))}"
    if result.checker:
        yield f"onnx.checker: {plain(result.checker)}"
    yield from (f"Note: {plain(note)}" for note in result.notes)
    if result.reason:
        yield f"Listed as known: {plain(result.reason)}" + (f" {link(result.issue)}" if result.issue else "")
    if result.where:
        yield f"Spec: {code(result.where)}"
    if step := next_step(result, allow_import=allow_import, bundle=bundle):
        yield f"**Next**: {step.sentence}." + (f" {command(step.command)}" if step.command else "")


def _numbers(held: Sequence[tuple[str, OutputComparison]]) -> str:
    return table(
        [
            "output", "shape", "dtype", "tolerance", "outside", "max abs", "max rel", "max ulp",
            "worst at", "got", "meant", "least rtol", "least atol", "problem",
        ],
        [_number_row(label, comparison) for label, comparison in held],
    )  # fmt: skip


def _number_row(label: str, comparison: OutputComparison) -> list[str]:
    return [
        plain(label),
        plain(str(list(comparison.shape))),
        plain(comparison.dtype),
        plain(comparison.tolerance),
        f"{comparison.mismatched:,} of {comparison.of:,}",
        number(comparison.max_abs),
        number(comparison.max_rel),
        number(comparison.max_ulp),
        index(comparison.worst).replace("[", r"\["),
        value_at(comparison.actual_at_worst),
        value_at(comparison.expected_at_worst),
        number(comparison.least_rtol),
        number(comparison.least_atol),
        plain(comparison.problem or "none"),
    ]


def _log(lines: Sequence[str]) -> str:
    """The end of what the libraries printed; an error stands at the end of it."""
    left = len(lines) - _LOG_LINES
    head = [f"... {left:,} earlier lines are in report.json"] if left > 0 else []
    return fenced("\n".join([*head, *lines[-_LOG_LINES:]]))
