"""One report format a file: each is a pure function of the :class:`harness.result.Report`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from harness.result import Report


class ReportFormat(Protocol):
    """A way to write a report down. ``name`` is the word after ``--format``; ``suffix`` is the file's ending."""

    name: str
    suffix: str

    def render(self, report: Report) -> str:
        """The whole report as text."""
        ...


@runtime_checkable
class Piecewise(Protocol):
    """A format whose text is too long to be held at once; ``render`` gives the parts joined."""

    def parts(self, report: Report) -> Iterator[str]:
        """The report's text from its beginning to its end."""
        ...
