"""What a run leaves on GitHub Actions: the job's step summary, and annotations on the lines of the specs."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from harness.errors import HarnessError
from harness.report.github import GitHubReport, error_commands
from harness.result import Report


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
