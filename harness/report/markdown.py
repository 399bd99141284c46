"""Everything that one check says about itself, as Markdown blocks.

``report.md``: a summary that fits a screen, then each divergence, the matrix, latency, and where it ran.

The report is a sequence of blocks, each whole by itself, so that a place with a size limit
(:mod:`harness.report.github`) can take as many as fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.report.machines import about
from harness.report.tables import code, command, fenced, groups, link, placement_blocks, plain, table, targets
from harness.report.tables.latency import latency_blocks
from harness.report.wording import (
    bundle_of,
    comparisons,
    explanation,
    exports,
    happened,
    index,
    next_step,
    number,
    numbers,
    one_line,
    outcome,
    shortened,
    telling,
    value_at,
    verdict,
    wrong,
)
from harness.result import STATUSES, OutputComparison, Report, Result

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


_DETAILED = 100
"""So many wrong checks are shown in full; of the others a row each, and report.json holds all of them."""

_CELL = 160
"""A table cell's text is cut at so many characters."""


class MarkdownReport:
    """GitHub-flavoured Markdown; words carry every status, nothing rests on colour."""

    name = "md"
    suffix = ".md"

    def render(self, report: Report) -> str:
        """The whole report as text."""
        return "\n\n".join(blocks(report)) + "\n"


PROVIDES = (MarkdownReport(),)


def blocks(report: Report) -> Iterator[str]:
    """The report from the most to the least urgent, block by block."""
    yield "# Parity report"
    yield f"**{plain(verdict(report))}**"
    if rest := report.run.get("complaints", ())[1:]:
        yield "\n".join(f"- {plain(str(complaint))}" for complaint in rest)
    yield _counts(report.results)
    if said := exports(report):
        yield f"{said}."
    yield from _wrong(
        wrong(report.results), allow_import=bool(report.run.get("allow_import")), bundle=bundle_of(report.run)
    )
    yield from _known([result for result in report.results if result.status == "known"])
    yield from _remarked([result for result in report.results if result.status == "passed"])
    yield from _matrix(report.results)
    yield from latency_blocks(report.results)
    yield from placement_blocks(report.results)
    yield from _skipped([result for result in report.results if result.status == "skipped"])
    yield from _environment(report)


def _counts(results: Sequence[Result]) -> str:
    """How many checks of each target came to each status."""
    rows = []
    for target in targets(results):
        statuses = [result.status for result in results if result.target == target]
        rows.append([code(target), *(_count(statuses.count(status)) for status in STATUSES)])
    statuses = [result.status for result in results]
    rows.append(["all", *(_count(statuses.count(status)) for status in STATUSES)])
    return table(["target", *STATUSES], rows)


def _count(number: int) -> str:
    return f"{number:,}" if number else "."


def _wrong(results: Sequence[Result], *, allow_import: bool, bundle: str | None) -> Iterator[str]:
    if not results:
        return
    yield "## Not as expected"
    for result in results[:_DETAILED]:
        yield from details(result, allow_import=allow_import, bundle=bundle)
    if rest := results[_DETAILED:]:
        yield f"And {len(rest):,} more; `report.json` holds them in full:"
        yield _rows(rest)


def _rows(results: Sequence[Result]) -> str:
    """One row a check: what happened, by how much, and whose fault it is."""
    return table(
        ["case", "target", "what happened", "numbers", "blame", "where"],
        [
            [
                code(result.case),
                code(result.target),
                outcome(result),
                _figures(result),
                result.blame or "-",
                code(result.where) if result.where else "-",
            ]
            for result in results
        ],
    )


def _figures(result: Result) -> str:
    comparison = telling(result)
    if comparison is not None and not comparison.passed:
        return plain(numbers(comparison))
    return plain(shortened(explanation(result), _CELL)) or "-"


def _known(results: Sequence[Result]) -> Iterator[str]:
    """Known failures, under the reason that the list gives for each."""
    if not results:
        return
    yield "## Known failures"
    by_reason: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_reason.setdefault((result.reason or "no reason given", result.issue or ""), []).append(result)
    for (reason, issue), alike in by_reason.items():
        yield f"**{plain(reason)}**" + (f" {link(issue)}" if issue else "")
        yield _rows(alike)


def _remarked(results: Sequence[Result]) -> Iterator[str]:
    """Checks that passed and still have something to say: one row for each remark and target."""
    alike: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for remark in _remarks(result):
            alike.setdefault((result.target, remark), []).append(result.case)
    if not alike:
        return
    yield "## Passed, with a remark"
    yield table(
        ["target", "remark", "cases", "the first"],
        [
            [code(target), plain(shortened(remark, _CELL)), f"{len(cases):,}", code(cases[0])]
            for (target, remark), cases in alike.items()
        ],
    )


def _remarks(result: Result) -> Iterator[str]:
    yield from (f"blind: {one_line(output.blind)}" for output in result.outputs if output.blind)
    if result.checker:
        yield f"onnx.checker: {one_line(result.checker)}"
    yield from map(one_line, result.notes)


def _matrix(results: Sequence[Result]) -> Iterator[str]:
    if not results:
        return
    yield "## Cases by targets"
    yield "`[...]` stands for matrix points that came to the same; what is wrong is in capitals and has its own row."
    columns = [code(target) for target in targets(results)]
    for group in groups(results):
        yield f"### {code(group.spec) if group.spec else 'cases'}"
        yield table(
            ["case", "points", *columns],
            [[code(row.label), f"{row.cases:,}", *row.cells] for row in group.rows],
        )


def _skipped(results: Sequence[Result]) -> Iterator[str]:
    if not results:
        return
    yield "## Skipped"
    alike: dict[tuple[str, str], int] = {}
    for result in results:
        why = (result.target, explanation(result) or happened(result) or "no reason was given")
        alike[why] = alike.get(why, 0) + 1
    rows = [[code(target), f"{count:,}", plain(why)] for (target, why), count in alike.items()]
    yield table(["target", "checks", "why, and what would bring it"], rows)


def _environment(report: Report) -> Iterator[str]:
    rows = [[plain(name), plain(value)] for name, value in about(report)]
    if rows:
        yield "## Environment"
        yield table(["what", "value"], rows)
