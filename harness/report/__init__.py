"""Report formats, one per file. Each is a pure function of the :class:`harness.result.Report`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from harness.result import Report


class ReportFormat(Protocol):
    """A format of the report. ``name`` is the word after ``--format``; ``suffix`` is the ending of the file."""

    name: str
    suffix: str

    def render(self, report: Report) -> str:
        """The whole report as text."""
        ...


@runtime_checkable
class Piecewise(Protocol):
    """A format that can be written in parts, because its text is too long to hold at once.

    ``render`` returns the parts joined.
    """

    def parts(self, report: Report) -> Iterator[str]:
        """The text of the report in parts, from its beginning to its end."""
        ...
