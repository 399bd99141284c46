"""GitHub Actions: the step summary of a job, and annotations on the lines of the specs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from harness.errors import HarnessError, one_line, printable
from harness.report.causes import Cause, causes
from harness.report.markdown import blocks
from harness.report.wording import (
    CaseName,
    comparison_line,
    explanation,
    main_comparison,
    outcome,
)
from harness.result import Report, Result

SUMMARY_BYTES = 1024 * 1024 - 1024
"""A step summary may have 1 MiB (GitHub, "Workflow commands", job summaries); a little is left for other steps."""

ANNOTATIONS = 10
"""GitHub shows ten error annotations per step, and drops the others without a message."""


CHECKS = 10
"""Checks of one cause that its annotation names."""


class GitHubReport:
    """The Markdown for ``$GITHUB_STEP_SUMMARY``. :func:`error_commands` returns what goes to standard output."""

    name = "github"
    suffix = ".github.md"

    def render(self, report: Report) -> str:
        """As much of the Markdown report as a step summary holds, from the top, in whole blocks."""
        kept: list[str] = []
        size = 0
        for block in blocks(report):
            size += len(block.encode("utf-8", "backslashreplace")) + 2
            if size > SUMMARY_BYTES - 200:
                kept.append("**The rest did not fit here; see `report.md` and `report.json`.**")
                break
            kept.append(block)
        return "\n\n".join(kept) + "\n"


PROVIDES = (GitHubReport(),)


def publish(report: Report, formats: Collection[str], environment: Mapping[str, str] = os.environ) -> str:
    """Append ``report`` to the step summary, and return the workflow commands for standard output.

    Does nothing and returns an empty text if the run is not on GitHub Actions and ``formats`` do not name this format.
    Raises :class:`HarnessError` if the step summary cannot be written.
    """
    if environment.get("GITHUB_ACTIONS") != "true" and GitHubReport.name not in formats:
        return ""
    if summary := environment.get("GITHUB_STEP_SUMMARY"):
        _append(Path(summary), GitHubReport().render(report))
    return error_commands(report)


def _append(summary: Path, text: str) -> None:
    try:
        with summary.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        message = f"GITHUB_STEP_SUMMARY {summary}: {error.strerror}; it must name a file that can be written"
        raise HarnessError(message) from error


def error_commands(report: Report) -> str:
    """``::error`` workflow commands, one per cause of checks that are not as expected, the silent failures first.

    Each stands at the place of its first check. Empty if all checks are as expected. The last command counts what is
    beyond GitHub's limit.
    """
    found = causes(report.results)
    shown = found if len(found) <= ANNOTATIONS else found[: ANNOTATIONS - 1]
    commands = [_command(cause) for cause in shown]
    if rest := found[len(shown) :]:
        more = sum(len(cause.results) for cause in rest)
        commands.append(f"::error title=harness::{_data(f'and {more:,} more checks not as expected; see the summary')}")
    return "".join(f"{command}\n" for command in commands)


def _command(cause: Cause) -> str:
    first = cause.first
    alone = len(cause.results) == 1
    title = f"{CaseName.parse(first.case).family}: {first.status}" if alone else f"{cause.status}: {cause.title}"
    properties = ",".join([*_position(first.where or ""), f"title={_property(printable(one_line(title)))}"])
    return f"::error {properties}::{_data(chr(10).join(_lines(cause)))}"


def _lines(cause: Cause) -> Iterator[str]:
    """The extent of a cause of several checks, then its checks."""
    if len(cause.results) > 1:
        yield printable(one_line("; ".join(filter(None, [cause.extent, cause.contrast]))))
    yield from map(_line, cause.results[:CHECKS])
    if more := cause.results[CHECKS:]:
        yield f"and {len(more):,} more checks; see the summary"


def _position(place: str) -> Iterator[str]:
    file, *position = place.rsplit(":", 2)
    if file:
        yield f"file={_property(file)}"
        yield from (f"{key}={_property(value)}" for key, value in zip(("line", "col"), position, strict=False))


def _line(result: Result) -> str:
    comparison = main_comparison(result)
    reason = explanation(result) if comparison is None or comparison.passed else comparison_line(comparison)
    return printable(one_line(f"{result.case} on {result.target}: {outcome(result)}: {reason}"))


def _data(text: str) -> str:
    """``text`` escaped as GitHub's own toolkit escapes the message of a command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """``text`` escaped as GitHub's own toolkit escapes a property of a command."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
