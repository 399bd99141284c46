"""Report formats, one per file, and writing them. Each is a pure function of the :class:`harness.result.Report`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable
from uuid import uuid4

from harness.errors import HarnessError, UsageError
from harness.registry import plugins
from harness.result import Report
from harness.spec.quoting import join_names, suggestion


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


def write(report: Report, directory: Path, formats: Iterable[str]) -> tuple[Path, ...]:
    """Write ``report<suffix>`` into ``directory`` in each of ``formats``; return the paths in that order.

    The directory is made if it is missing. Every format is rendered, one after another, before the first file is
    replaced, and an old file stays until its successor is complete. A format that can be written in parts is never
    held in memory whole.

    Raises :class:`UsageError` for an unknown format, and :class:`HarnessError` if the folder cannot be written.
    """
    chosen = chosen_formats(formats)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(directory, error) from error
    paths = tuple(directory / f"report{one.suffix}" for one in chosen)
    with ExitStack() as unfinished:
        drafts = [
            unfinished.enter_context(_draft(path, _parts(one, report))) for path, one in zip(paths, chosen, strict=True)
        ]
        for draft, path in zip(drafts, paths, strict=True):
            _replace(path, draft)
    return paths


def chosen_formats(names: Iterable[str]) -> list[ReportFormat]:
    """The formats that ``names`` name, each once, those of plugins included.

    Raises :class:`UsageError` for an unknown format.
    """
    formats: dict[str, ReportFormat] = plugins("report")
    for name in names:
        if name not in formats:
            remedy = suggestion(name, formats, f"use one of {join_names(formats)}")
            raise UsageError(f"--format {name}: no such report format; {remedy}")
    return [formats[name] for name in dict.fromkeys(names)]


def _parts(one: ReportFormat, report: Report) -> Iterable[str]:
    return one.parts(report) if isinstance(one, Piecewise) else (one.render(report),)


@contextmanager
def _draft(path: Path, parts: Iterable[str]) -> Iterator[Path]:
    """A temporary file beside ``path`` with the text of ``parts``; deleted at the end unless it was moved."""
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        try:
            with unfinished.open("xb") as file:
                # Lone surrogates (undecodable bytes in a library's output) become escapes, which JSON can hold too.
                for part in parts:
                    file.write(part.encode("utf-8", "backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _cannot_write(path, error) from error
        yield unfinished
    finally:
        unfinished.unlink(missing_ok=True)


def _replace(path: Path, draft: Path) -> None:
    """Move ``draft``, which is complete on the disk, to ``path``; a crash leaves the old file."""
    try:
        draft.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> HarnessError:
    return HarnessError(
        f"cannot write {path}: {error.strerror}; make room or fix the permissions, or use another --report-dir"
    )
