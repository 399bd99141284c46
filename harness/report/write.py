"""Puts reports into a folder: each file whole, or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from pathlib import Path
from uuid import uuid4

from harness.errors import HarnessError, UsageError
from harness.registry import plugins
from harness.report import Piecewise, ReportFormat
from harness.result import Report


def write(report: Report, directory: Path, formats: Iterable[str]) -> tuple[Path, ...]:
    """Write ``report<suffix>`` into ``directory`` (made where missing) in each of ``formats``; the paths, in order.

    Every format is rendered, one after another, before the first file is touched, and a file that was there stays as
    it was until its successor is complete. What can be written piece by piece is never held whole.

    Raises :class:`UsageError` for a format that does not exist, :class:`HarnessError` where the folder cannot be
    written.
    """
    chosen = [_format(name) for name in dict.fromkeys(formats)]
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
            _put(draft, path)
    return paths


def _format(name: str) -> ReportFormat:
    known: dict[str, ReportFormat] = plugins("report")
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    right = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise UsageError(f"--format {name}: there is no such report format; {right}")


def _parts(one: ReportFormat, report: Report) -> Iterable[str]:
    return one.parts(report) if isinstance(one, Piecewise) else (one.render(report),)


@contextmanager
def _draft(path: Path, parts: Iterable[str]) -> Iterator[Path]:
    """The text of ``parts`` on the disk, beside ``path``; gone afterwards where nobody has moved it."""
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


def _put(draft: Path, path: Path) -> None:
    """The file under its own name only when all of it is on the disk; a crash leaves the old one."""
    try:
        draft.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> HarnessError:
    return HarnessError(
        f"cannot write {path}: {error.strerror}; make room or leave to write there, or name another --report-dir"
    )
