"""The sentences and numbers that every format says alike, so that no two reports of one run differ in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.result import OutputComparison, Report, Result, Status

WRONG: frozenset[Status] = frozenset({"failed", "error", "fixed"})
"""The statuses that are not as expected: any of them makes the exit code 1."""


def wrong(results: Sequence[Result]) -> list[Result]:
    """The checks that are not as expected, in the report's order."""
    return [result for result in results if result.status in WRONG]


def verdict(report: Report) -> str:
    """The whole run in one sentence.

    ``report.run["complaints"]``, where the caller left any, are why the run as a whole cannot be
    relied on (see :class:`harness.gate.Judged`), and ``report.run["interrupted"]`` that it was not
    finished; both come before every count.
    """
    counts = report.summary
    tally = ", ".join(f"{counts[status]:,} {status}" for status in counts if status != "checks" and counts[status])
    checks = _count(counts["checks"], "check")
    if complaints := report.run.get("complaints", ()):
        return f"No verdict: {one_line(str(complaints[0]))} ({checks}: {tally or 'none done'})."
    if report.run.get("interrupted"):
        by = f" by {name}" if (name := report.run.get("interrupted_by")) else ""
        left = f"No verdict: the run was interrupted{by} after {checks} ({tally or 'none done'})"
        return f"{left}; the same command with --resume goes on."
    if not counts["checks"]:
        return "No verdict: there was nothing to verify."
    if counts["skipped"] == counts["checks"]:
        return f"No verdict: nothing was compared, all of {checks} skipped."
    if bad := sum(counts[status] for status in WRONG):
        return f"Not as expected: {bad:,} of {checks} ({tally})."
    return f"All as expected: {checks} ({tally})."


def exports(report: Report) -> str | None:
    """How many files were exported for the run, and how many came from the cache; None where neither was so."""
    counts = report.run.get("exports") or {}
    made, reused = counts.get("made", 0), counts.get("from_cache", 0)
    return f"{_count(made, 'export')} made, {reused:,} from the cache" if made or reused else None


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def happened(result: Result) -> str:
    """Where and how a check ended: ``export: unsupported``; empty where there is nothing to say."""
    return ": ".join(part for part in (result.stage, result.symptom) if part)


def comparisons(result: Result) -> Iterator[tuple[str, OutputComparison]]:
    """Every comparison of a check with its label: its outputs, then those that its findings rest on."""
    for output in result.outputs:
        yield _label(output), output
    for finding in result.findings:
        if finding.comparison is not None:
            yield f"{finding.what}: {_label(finding.comparison)}", finding.comparison


def _label(output: OutputComparison) -> str:
    return f"{output.index} {output.name}".strip() + (f" at {output.at}" if output.at else "")


def telling(result: Result) -> OutputComparison | None:
    """The comparison that tells most: the first that did not pass, else the one furthest from its reference."""
    held = [comparison for _, comparison in comparisons(result)]
    failed = [comparison for comparison in held if not comparison.passed]
    return failed[0] if failed else max(held, key=lambda comparison: comparison.max_ulp or 0, default=None)


def number(value: float | None) -> str:
    """A figure short enough to read: whole numbers grouped, others to three digits, ``-`` where there is none."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def value_at(value: float | None) -> str:
    """One element of a tensor, to every digit that float32 holds."""
    return "-" if value is None else f"{value:.9g}"


def index(position: tuple[int, ...] | None) -> str:
    """An element's index, as it is typed after the tensor's name."""
    return "-" if position is None else str(list(position))


def numbers(comparison: OutputComparison) -> str:
    """How far apart, on one line: how many, by how much, where it is worst, what would have passed."""
    parts = [f"{comparison.mismatched:,} of {comparison.of:,} outside {comparison.tolerance}"]
    if not comparison.mismatched:
        parts = [one_line(comparison.problem)] if comparison.problem else [f"within {comparison.tolerance}"]
    sizes = (("abs", comparison.max_abs), ("rel", comparison.max_rel), ("ulp", comparison.max_ulp))
    if known := " / ".join(f"{number(size)} {unit}" for unit, size in sizes if size is not None):
        parts.append(f"max {known}")
    if comparison.worst is not None:
        got, meant = value_at(comparison.actual_at_worst), value_at(comparison.expected_at_worst)
        parts.append(f"worst {index(comparison.worst)}: {got} for {meant}")
    if comparison.at:
        parts.append(f"at {one_line(comparison.at)}")
    return ", ".join(parts)


def outcome(result: Result) -> str:
    """What a check came to, on one line: its status, then where and how."""
    return ", ".join(part for part in (result.status, happened(result)) if part)


def explanation(result: Result) -> str:
    """Why a check ended as it did, on one line: its own message, or the first thing that did not hold."""
    if result.message:
        return one_line(result.message)
    broken = [finding.message for finding in result.findings if not finding.passed]
    broken += [output.problem for output in result.outputs if output.problem]
    return one_line(broken[0]) if broken else ""


def blindness(result: Result) -> str:
    """Why a pass proves little, on one line; empty where its tolerance could have seen an error."""
    told = [output.blind for output in result.outputs if output.blind] if result.status == "passed" else []
    return one_line(told[0]) if told else ""


def one_line(text: str) -> str:
    """``text`` with every run of blanks and line ends made one blank."""
    return " ".join(text.split())


def shortened(text: str, length: int) -> str:
    """``text`` on one line, cut at ``length`` characters; the whole of it stands in report.json."""
    line = one_line(text)
    return line if len(line) <= length else f"{line[: length - 3]}..."


def printable(text: str) -> str:
    """``text`` without what a terminal or an XML reader would take for more than text: controls, lone surrogates."""
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}" for char in text)
