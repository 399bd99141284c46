"""What GitHub Actions shows: a step summary of limited size, and annotations on the specs' lines.

What a run leaves on GitHub Actions: the job's step summary, and annotations on the lines of the specs.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.report.markdown import blocks
from harness.report.wording import CaseName, explanation, numbers, one_line, outcome, printable, telling, wrong
from harness.result import Report, Result

SUMMARY_BYTES = 1024 * 1024 - 1024
"""A step summary may have 1 MiB (GitHub, "Workflow commands", job summaries); a little is left for other steps."""

ANNOTATIONS = 10
"""GitHub shows ten error annotations a step, and drops the others without a word."""


class GitHubReport:
    """The Markdown for ``$GITHUB_STEP_SUMMARY``; :func:`error_commands` is what goes to standard output."""

    name = "github"
    suffix = ".github.md"

    def render(self, report: Report) -> str:
        """As much of the Markdown report as fits a step summary, from the top, in whole blocks."""
        kept: list[str] = []
        size = 0
        for block in blocks(report):
            size += len(block.encode("utf-8", "backslashreplace")) + 2
            if size > SUMMARY_BYTES - 200:
                kept.append("**The rest did not fit here: it stands in `report.md` and `report.json`.**")
                break
            kept.append(block)
        return "\n\n".join(kept) + "\n"


PROVIDES = (GitHubReport(),)


def error_commands(report: Report) -> str:
    """``::error`` workflow commands, one for each place in a spec where something is not as expected.

    Empty where all is as expected. What would be beyond GitHub's limit is counted in the last one.
    """
    by_place: dict[str, list[Result]] = {}
    for result in wrong(report.results):
        by_place.setdefault(result.where or "", []).append(result)
    places = list(by_place.items())
    shown = places if len(places) <= ANNOTATIONS else places[: ANNOTATIONS - 1]
    commands = [_command(place, results) for place, results in shown]
    if rest := places[len(shown) :]:
        more = sum(len(results) for _, results in rest)
        commands.append(f"::error title=harness::{_data(f'and {more:,} more checks not as expected; see the summary')}")
    return "".join(f"{command}\n" for command in commands)


def _command(place: str, results: Sequence[Result]) -> str:
    title = f"{CaseName.parse(results[0].case).family}: {results[0].status}"
    properties = ",".join([*_position(place), f"title={_property(title)}"])
    return f"::error {properties}::{_data(chr(10).join(map(_line, results)))}"


def _position(place: str) -> Iterator[str]:
    file, *position = place.rsplit(":", 2)
    if file:
        yield f"file={_property(file)}"
        yield from (f"{key}={_property(value)}" for key, value in zip(("line", "col"), position, strict=False))


def _line(result: Result) -> str:
    comparison = telling(result)
    how = explanation(result) if comparison is None or comparison.passed else numbers(comparison)
    return printable(one_line(f"{result.case} on {result.target}: {outcome(result)}: {how}"))


def _data(text: str) -> str:
    """Escaped as GitHub's own toolkit escapes a command's message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escaped as GitHub's own toolkit escapes a command's property."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def publish(report: Report, formats: Collection[str], environment: Mapping[str, str] = os.environ) -> str:
    """Append ``report`` to the step summary, and give the workflow commands that belong on standard output.

    Nothing is done, and nothing given, where the run is not on GitHub Actions and ``formats`` do not ask for it.
    Raises :class:`HarnessError` where the step summary cannot be written.
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
        said = f"GITHUB_STEP_SUMMARY {summary}: {error.strerror}; it must name a file that can be written"
        raise HarnessError(said) from error
