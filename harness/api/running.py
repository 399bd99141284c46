"""``harness.run``: the command of the same name, as a function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from harness.api.answers import Ran
from harness.engine.temporary import temporary_folder
from harness.pipeline import Outcome, Request
from harness.pipeline import run as carry_out
from harness.result import Result
from harness.verify.settings import Settings, cache_folder, with_time_limit


class Unwatched:
    """Nobody looks on while checks run."""

    def begin(self, total: int, what: str = "checks") -> None:
        """See :class:`harness.pipeline.Watcher`."""

    def advance(self, result: Result | None = None) -> None:
        """See :class:`harness.pipeline.Watcher`."""

    def end(self) -> None:
        """See :class:`harness.pipeline.Watcher`."""


def run(
    paths: str | Path | Sequence[str | Path],
    *,
    targets: str | Sequence[str],
    keywords: str | Sequence[str],
    workers: int,
    report_dir: str | Path | None,
    formats: Sequence[str],
    known_failures: str | Path | None,
    require: str | Sequence[str],
    latency: bool,
    timeout: float | Literal["by size"] | None,
    allow_import: bool,
) -> Ran:
    """See :func:`harness.api.run`. Raises ``KeyboardInterrupt`` where somebody stopped it."""
    request = Request(
        paths=_several(paths),
        targets=_several(targets),
        keywords=_several(keywords),
        workers=workers,
        formats=tuple(formats),
        known_failures=None if known_failures is None else Path(known_failures),
        require=_several(require),
        allow_import=allow_import,
        settings=_settings(timeout, latency=latency),
    )
    outcome = _outcome(request, report_dir)
    report = outcome.report
    if report.run["interrupted"]:
        raise KeyboardInterrupt
    return Ran(report.environment, report.results, report.run, outcome.exit_code)


def _outcome(request: Request, report_dir: str | Path | None) -> Outcome:
    if report_dir is not None:
        return carry_out(replace(request, report_dir=Path(report_dir)), Unwatched())
    with temporary_folder() as folder:
        return carry_out(replace(request, report_dir=folder, formats=()), Unwatched())


def _settings(timeout: float | Literal["by size"] | None, *, latency: bool) -> Settings:
    asked = Settings(timeout=None, latency=latency, cache=cache_folder())
    return asked if timeout is None else with_time_limit(asked, None if timeout == "by size" else timeout)


def _several(given: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """One word, or several, as several."""
    return (str(given),) if isinstance(given, str | Path) else tuple(map(str, given))
