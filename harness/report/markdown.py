"""``report.md``: verdict and counts, the unexpected checks by cause, the matrix, latency, and the environment.

The report is a sequence of blocks. Each is complete by itself, so that a place with a size limit
(:mod:`harness.report.github`) can take as many as fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.compare.inconclusive import training_line
from harness.errors import one_line, shortened
from harness.report.causes import Cause, causes
from harness.report.layers import (
    ROWS_IN_MARKDOWN,
    layer_rows,
    node_names,
    repeats_outputs,
    uncovered_line,
    worst_layers,
)
from harness.report.machines import environment_rows
from harness.report.tables import code, command, fenced, link, matrix_blocks, placement_blocks, plain, table, targets
from harness.report.tables.latency import latency_blocks
from harness.report.tables.node_times import node_time_blocks
from harness.report.tables.precision import measure_blocks, precision_blocks, sample_blocks
from harness.report.wording import (
    blame_words,
    comparison_line,
    comparisons,
    expectation_name,
    explanation,
    export_counts,
    format_index,
    format_number,
    format_pair,
    main_comparison,
    next_step,
    outcome,
    stage_and_symptom,
    verdict,
)
from harness.result import STATUSES, OutputComparison, Report, Result
from harness.spec.quoting import count_of

_MAX_IN_FULL = 100
"""Causes that are shown in full. Each further check has a row; report.json holds all of them."""

_MAX_CELL = 160
"""Characters of text in a table cell."""

_LOG_LINES = 15


class MarkdownReport:
    """GitHub-flavoured Markdown. Words carry every status; nothing depends on colour."""

    name = "md"
    suffix = ".md"

    def render(self, report: Report) -> str:
        """The whole report as text."""
        return "\n\n".join(blocks(report)) + "\n"


PROVIDES = (MarkdownReport(),)


def blocks(report: Report) -> Iterator[str]:
    """The report block by block, the most urgent first."""
    yield "# Parity report"
    if line := training_line(report.results):
        yield f"**{plain(line)}**"
    yield f"**{plain(verdict(report))}**"
    if rest := report.run.get("complaints", ())[1:]:
        yield "\n".join(f"- {plain(str(complaint))}" for complaint in rest)
    yield _counts(report.results)
    if line := export_counts(report):
        yield f"{line}."
    yield from _unexpected(causes(report.results), report.run)
    yield from _known([result for result in report.results if result.status == "known"])
    yield from _remarks([result for result in report.results if result.status == "passed"])
    yield from precision_blocks(report.results)
    yield from sample_blocks(report.results)
    yield from _layer_tables([result for result in report.results if result.status == "passed"])
    yield from matrix_blocks(report.results)
    yield from latency_blocks(report.results)
    yield from node_time_blocks(report.results)
    yield from placement_blocks(report.results)
    yield from _skipped([result for result in report.results if result.status == "skipped"])
    yield from _environment(report)


def _counts(results: Sequence[Result]) -> str:
    """A table of the checks by target and status."""
    named = [(code(target), [one.status for one in results if one.target == target]) for target in targets(results)]
    named.append(("all", [result.status for result in results]))
    rows = [[name, *(_count(statuses.count(status)) for status in STATUSES)] for name, statuses in named]
    return table(["target", *STATUSES], rows)


def _count(number: int) -> str:
    return f"{number:,}" if number else "."


def _unexpected(found: Sequence[Cause], run: Mapping[str, Any]) -> Iterator[str]:
    if not found:
        return
    yield "## Not as expected"
    if len(found) > 1:
        yield _causes(found)
    for cause in found[:_MAX_IN_FULL]:
        yield from _cause(cause, run)
    if rest := found[_MAX_IN_FULL:]:
        yield f"And {count_of(len(rest), 'more cause')}; `report.json` has all of their checks:"
        yield _rows([result for cause in rest for result in cause.results])


def _causes(found: Sequence[Cause]) -> str:
    """A row for each cause."""
    return table(
        ["", "cause", "checks", "cases", "targets", "blame"],
        [
            [
                cause.status.upper(),
                plain(cause.title),
                f"{len(cause.results):,}",
                f"{len(cause.cases):,}",
                ", ".join(map(code, cause.targets)),
                blame_words(cause.first) or "-",
            ]
            for cause in found
        ],
    )


def _cause(cause: Cause, run: Mapping[str, Any]) -> Iterator[str]:
    """A cause: its first check in full, and a row for each of its cases. A cause of one check is that check."""
    first = cause.first
    if len(cause.results) == 1:
        yield from details(first, run)
        return
    yield f"### {cause.status.upper()}: {plain(cause.title)}"
    contrast = f" {plain(cause.contrast)}." if cause.contrast else ""
    yield f"{cause.extent}.{contrast} The first is {code(first.case)} on {code(first.target)}:"
    yield from _in_full(first, run)
    rows = []
    for case in cause.cases:
        of_case = [result for result in cause.results if result.case == case]
        rows.append([code(case), ", ".join(code(result.target) for result in of_case), _numbers_or_message(of_case[0])])
    yield table(["case", "targets", "numbers"], rows)


# One check in full


def details(result: Result, run: Mapping[str, Any] | None = None) -> Iterator[str]:
    """One check of ``run``, a part of its report, in full: a heading, its facts, its numbers, the end of the log."""
    yield f"### {result.status.upper()}: {code(result.case)} on {code(result.target)}"
    yield from _in_full(result, run or {})


def _in_full(result: Result, run: Mapping[str, Any]) -> Iterator[str]:
    yield "\n".join(f"- {fact}" for fact in _facts(result, run))
    if labelled := list(comparisons(result)):
        yield _numbers(labelled)
        yield from measure_blocks(labelled)
    yield from _layers(result)
    if result.log:
        yield _log(result.log)


def _facts(result: Result, run: Mapping[str, Any]) -> Iterator[str]:
    failure = " ".join(part for part in (stage_and_symptom(result) + ".", explanation(result)) if part != ".")
    yield f"What: {plain(failure) or result.status}"
    if result.blame:
        yield f"Blame: **{blame_words(result)}**"
    yield from (f"Evidence: {plain(line)}" for line in result.evidence)
    for finding in result.findings:
        if not finding.passed:
            yield f"Expected by {code(expectation_name(finding))}: {plain(finding.message)}"
    for distance in result.distances:
        eager, target = format_number(distance.eager_max_abs), format_number(distance.target_max_abs)
        nearer = "neither is nearer" if distance.nearer == "neither" else f"{distance.nearer} is nearer"
        yield f"Distance from the float64 reference, output {distance.index}: eager {eager}, target {target}; {nearer}"
    if result.placement and (stray := result.placement.get("stray")):
        yield f"Ran outside the requested provider: {plain(', '.join(map(str, stray)))}"
    if result.checker:
        yield f"onnx.checker: {plain(result.checker)}"
    yield from (f"Note: {plain(note)}" for note in result.notes if note not in (result.message or ""))
    if result.reason:
        yield f"Known failure: {plain(result.reason)}" + (f" {link(result.issue)}" if result.issue else "")
    if result.where:
        yield f"Spec: {code(result.where)}"
    if step := next_step(result, run):
        yield f"**Next**: {step.sentence}." + (f" {command(step.command)}" if step.command else "")


def _numbers(labelled: Sequence[tuple[str, OutputComparison]]) -> str:
    return table(
        [
            "output", "shape", "dtype", "tolerance", "mismatched", "max abs", "max rel", "max ulp",
            "worst at", "actual", "expected", "least rtol", "least atol", "problem",
        ],
        [_number_row(label, comparison) for label, comparison in labelled],
    )  # fmt: skip


def _layers(result: Result) -> Iterator[str]:
    """What the layers show, and the ten worst."""
    if result.layers_show is None or repeats_outputs(result):
        return
    not_covered = uncovered_line(result)
    yield f"Layers: {plain(result.layers_show)}." + (f" {plain(not_covered)}." if not_covered else "")
    headers, rows = layer_rows(result.layers, ROWS_IN_MARKDOWN)
    if rows:
        nodes = map(node_names, worst_layers(result.layers, ROWS_IN_MARKDOWN))
        cells = [[*row, names] for row, names in zip(rows, nodes, strict=True)]
        yield table([*headers, "nodes"], [list(map(plain, row)) for row in cells])


def _layer_tables(results: Sequence[Result]) -> Iterator[str]:
    """The layers of checks that passed."""
    compared = [result for result in results if result.layers_show is not None]
    if compared:
        yield "## Layers of checks that passed"
    for result in compared[:_MAX_IN_FULL]:
        yield f"### {code(result.case)} on {code(result.target)}"
        yield from _layers(result)
    if rest := compared[_MAX_IN_FULL:]:
        yield f"And {count_of(len(rest), 'more check')}; `report.json` has the layers of each."


def _number_row(label: str, comparison: OutputComparison) -> list[str]:
    return [
        plain(label),
        plain(str(list(comparison.shape))),
        plain(comparison.dtype),
        plain(comparison.tolerance),
        f"{comparison.mismatched:,} of {comparison.of:,}",
        format_number(comparison.max_abs),
        format_number(comparison.max_rel),
        format_number(comparison.max_ulp),
        format_index(comparison.worst).replace("[", r"\["),
        *format_pair(comparison.actual_at_worst, comparison.expected_at_worst),
        format_number(comparison.least_rtol),
        format_number(comparison.least_atol),
        plain(comparison.problem or "none"),
    ]


def _log(lines: Sequence[str]) -> str:
    """The last lines that the libraries printed; an error is at the end."""
    left = len(lines) - _LOG_LINES
    head = [f"... {left:,} earlier lines are in report.json"] if left > 0 else []
    return fenced("\n".join([*head, *lines[-_LOG_LINES:]]))


# Tables of many checks


def _rows(results: Sequence[Result]) -> str:
    """One row per check: what happened, the numbers, and the blame."""
    return table(
        ["case", "target", "what happened", "numbers", "blame", "where"],
        [
            [
                code(result.case),
                code(result.target),
                outcome(result),
                _numbers_or_message(result),
                blame_words(result) or "-",
                code(result.where) if result.where else "-",
            ]
            for result in results
        ],
    )


def _numbers_or_message(result: Result) -> str:
    comparison = main_comparison(result)
    if comparison is not None and not comparison.passed:
        return plain(comparison_line(comparison))
    return plain(shortened(explanation(result), _MAX_CELL)) or "-"


def _known(results: Sequence[Result]) -> Iterator[str]:
    """Known failures, grouped by the reason in the list."""
    if not results:
        return
    yield "## Known failures"
    by_reason: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_reason.setdefault((result.reason or "no reason given", result.issue or ""), []).append(result)
    for (reason, issue), group in by_reason.items():
        yield f"**{plain(reason)}**" + (f" {link(issue)}" if issue else "")
        yield _rows(group)


def _remarks(results: Sequence[Result]) -> Iterator[str]:
    """Checks that passed with a remark: one row per remark and target."""
    by_remark: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for remark in _remarks_of(result):
            by_remark.setdefault((result.target, remark), []).append(result.case)
    if not by_remark:
        return
    yield "## Passed, with a remark"
    yield table(
        ["target", "remark", "cases", "first case"],
        [
            [code(target), plain(shortened(remark, _MAX_CELL)), f"{len(cases):,}", code(cases[0])]
            for (target, remark), cases in by_remark.items()
        ],
    )


def _remarks_of(result: Result) -> Iterator[str]:
    yield from (f"inconclusive: {one_line(output.inconclusive)}" for output in result.outputs if output.inconclusive)
    if result.checker:
        yield f"onnx.checker: {one_line(result.checker)}"
    yield from (one_line(note) for note in result.notes if note not in (result.inconclusive or ""))


def _skipped(results: Sequence[Result]) -> Iterator[str]:
    if not results:
        return
    yield "## Skipped"
    counts: dict[tuple[str, str], int] = {}
    for result in results:
        key = (result.target, explanation(result) or stage_and_symptom(result) or "no reason given")
        counts[key] = counts.get(key, 0) + 1
    rows = [[code(target), f"{count:,}", plain(reason)] for (target, reason), count in counts.items()]
    yield table(["target", "checks", "reason, and what to install"], rows)


def _environment(report: Report) -> Iterator[str]:
    if rows := [[plain(name), plain(value)] for name, value in environment_rows(report)]:
        yield "## Environment"
        yield table(["name", "value"], rows)
