"""The checks of a case, carried out in a worker: contained as in a run, and the same worker from test to test."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.engine.job import Job
from harness.engine.local import LocalEngine
from harness.engine.temporary import temporary_folder
from harness.errors import UsageError
from harness.result import Result
from harness.spec.case import Case
from harness.spec.target import Target
from harness.verify.artifacts import open_cache
from harness.verify.settings import Settings, cache_folder, with_time_limit


class Workplace:
    """Where a session of pytest has its checks carried out: one engine of one worker, opened for the first of them."""

    def __init__(self, timeout: float | None) -> None:
        self._settings = with_time_limit(Settings(latency=False, cache=cache_folder()), timeout)
        self._open = ExitStack()
        self._engine: LocalEngine | None = None
        self._scratch = Path()

    @classmethod
    def of(cls, config: pytest.Config) -> Workplace:
        """The session's own, which is closed with it."""
        if KEY not in config.stash:
            workplace = config.stash[KEY] = cls(config.getoption("harness_timeout"))
            config.add_cleanup(workplace.close)
        return config.stash[KEY]

    def carried_out(self, case: Case, targets: Sequence[Target]) -> dict[str, Result]:
        """What ``case`` comes to by target, not judged yet; a crash or running out of time ends one check alone.

        Raises :class:`harness.errors.HarnessError` where it cannot be carried out.
        """
        engine = self._engine or self._opened()
        job = Job(case, tuple(targets), self._settings, self._journal, self._scratch, Path.cwd())
        try:
            return {entry.result.target: entry.result for entry in engine.carry_out([job])}
        except BaseException:  # of pytest-timeout, say: the worker is still at it, and the next test gets another one
            self.close()
            raise

    def close(self) -> None:
        """Leave nothing of the worker, nor of its files."""
        self._open.close()
        self._engine = None

    @property
    def _journal(self) -> Path:
        return self._scratch / "journal.jsonl"

    def _opened(self) -> LocalEngine:
        if (cache := self._settings.cache) is not None:
            try:
                open_cache(cache)
            except OSError as error:
                said = f"cache {cache}: {error.strerror}; set HARNESS_CACHE to a folder that can be written"
                raise UsageError(said) from error
        self._scratch = self._open.enter_context(temporary_folder())
        self._engine = LocalEngine(1, self._journal, self._scratch)
        self._open.callback(self._engine.close)
        return self._engine


KEY = pytest.StashKey[Workplace]()
