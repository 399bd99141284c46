"""One report format a file: each is a pure function of the :class:`harness.result.Report`."""

from __future__ import annotations

from typing import Protocol

from harness.result import Report


class ReportFormat(Protocol):
    """A way to write a report down. ``name`` is the word after ``--format``; ``suffix`` is the file's ending."""

    name: str
    suffix: str

    def render(self, report: Report) -> str:
        """The whole report as text."""
        ...
