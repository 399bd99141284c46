"""The checks of a case, carried out in a worker: contained as in a run, and the same worker from test to test.

What pytest shows of a check that is not as expected, and keeps of every check.

A spec as a file of tests, and each of its checks as a test.

A known failure is a strict ``xfail`` that takes nothing but the failure that is known: a check that fails otherwise is
failed, and one that passes after all is failed by pytest as it fails every strict ``xfail``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from harness.check.cache.artifacts import open_cache
from harness.check.settings import Settings, cache_folder, with_time_limit
from harness.engine.job import Job
from harness.engine.local import LocalEngine
from harness.engine.processes.temporary import temporary_folder
from harness.environment import versions
from harness.errors import HarnessError, UsageError
from harness.gate import expected
from harness.plan import plan
from harness.report.wording import CaseName, comparisons, explanation, next_step, numbers, outcome, printable, telling
from harness.result import Result
from harness.search_path import Installed
from harness.spec.discovery import load
from harness.spec.known_failures import KnownFailure, by_check, load_known_failures
from harness.spec.language.case import Case
from harness.spec.targets import Target


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


def told(result: Result) -> str:
    """What a check came to, by how much and whose fault it is; then why, where it is written, and what to do next."""
    return "\n".join(map(printable, _lines(result)))


def _lines(result: Result) -> Iterator[str]:
    apart = [f"{label}: {numbers(held)}" for label, held in comparisons(result) if not held.passed]
    why = explanation(result)
    blame = f" (blame: {result.blame})" if result.blame else ""
    first, *rest = [*apart, why] if why else apart or [""]
    yield f"{outcome(result)}{blame}: {first}"
    yield from (f"  {line}" for line in (*rest, *result.evidence))
    if result.where:
        yield f"{result.where}: {result.case} on {result.target}"
    if step := next_step(result):
        yield step.sentence + (f":\n  {step.command}" if step.command else "")


def facts(result: Result) -> Iterator[tuple[str, object]]:
    """What a report of pytest's, such as its JUnit XML, keeps as properties."""
    yield "case", result.case
    yield "target", result.target
    yield from ((key, value) for key in ("status", "stage", "symptom", "blame") if (value := getattr(result, key)))
    if (most := telling(result)) is not None:
        for key in ("max_abs", "max_rel", "max_ulp"):
            if (size := getattr(most, key)) is not None:
                yield key, size


RESULTS = pytest.StashKey[dict[str, Result]]()


class NotAsExpected(Exception):
    """A check failed, or could not finish; ``result`` says how."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"{outcome(result)}: {explanation(result)}")
        self.result = result


class KnownToFail(NotAsExpected):
    """A check failed as the list of known failures says."""


class SpecFile(pytest.File):
    """The checks of a spec: its cases, each on the targets that pytest was told or that its folder's file names."""

    def collect(self) -> Iterable[Check]:
        """Every check. Raises what is wrong with the spec; :meth:`repr_failure` shows it as harness does."""
        with Installed():
            return list(self._checks())

    def _checks(self) -> Iterator[Check]:
        allow_import = self.config.getoption("harness_allow_import") or self.config.getini("harness_allow_import")
        specs = load([os.path.relpath(self.path)], allow_import=bool(allow_import))
        words = self.config.getoption("harness_targets") or self.config.getini("harness_targets") or ["default"]
        listed = [entry for entry in load_known_failures(specs.known_failures) if entry.applies(versions())]
        work = plan(specs.cases, specs.target_sets.select(words), (), None).work
        checks = [(case, target) for case, targets in work for target in targets]
        known = by_check(listed, [(case.id, str(target)) for case, target in checks])
        for (case, target), entries in zip(checks, known, strict=True):
            yield Check.made(self, case, target, entries)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:  # noqa: ARG002 - pytest's signature
        """What is wrong with the spec, with its places and without a traceback."""
        if isinstance(excinfo.value, HarnessError):
            return str(excinfo.value).replace("pass --allow-import", "pass --harness-allow-import")
        return super().repr_failure(excinfo)


class Check(pytest.Item):
    """One case on one target, called ``case[target]``; a matrix point of a case is in its name, before the target."""

    case: Case
    target: Target
    entries: Sequence[KnownFailure]

    @classmethod
    def made(cls, parent: SpecFile, case: Case, target: Target, entries: Sequence[KnownFailure]) -> Check:
        """The check of ``case`` on ``target``; ``entries`` are the known failures that apply here and speak of it."""
        name = f"{CaseName.parse(case.id).short}[{target}]"
        # Its id as text, which pytest takes apart as it does with those it has written down for --lf.
        check: Check = cls.from_parent(parent, name=name, nodeid=f"{parent.nodeid}::{name}")
        check.case, check.target, check.entries = case, target, entries
        if entries:
            reason = "; ".join(dict.fromkeys(" ".join(filter(None, (one.reason, one.issue))) for one in entries))
            check.add_marker(pytest.mark.xfail(reason=reason, raises=KnownToFail, strict=True))
        return check

    def runtest(self) -> None:
        """Carry the check out, contained as ``harness run`` does it."""
        with Installed():
            result = expected(self._carried_out(), self.entries)
        self.user_properties.extend(facts(result))
        if result.log:
            self.add_report_section("call", "library output", printable("\n".join(result.log)))
        match result.status:
            case "passed" | "fixed":
                return
            case "skipped":
                pytest.skip(printable(explanation(result)))
            case "known":
                raise KnownToFail(result)
            case _:
                raise NotAsExpected(result)

    def _carried_out(self) -> Result:
        """What the check came to. The checks of a case share their preparation, so that the first does all of them.

        Under pytest-xdist another process may have been given the others, and each does its own.
        """
        results: dict[str, Result] = self.parent.stash.setdefault(RESULTS, {}) if self.parent else {}
        if self.nodeid not in results:
            alike = [self] if hasattr(self.config, "workerinput") else [*self._siblings()]
            came_to = Workplace.of(self.config).carried_out(self.case, [one.target for one in alike])
            results.update({one.nodeid: came_to[str(one.target)] for one in alike})
        return results.pop(self.nodeid)

    def _siblings(self) -> Iterator[Check]:
        """The checks of the same case that were asked for, this one among them."""
        return (one for one in self.session.items if isinstance(one, Check) and one.case is self.case)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:  # noqa: ARG002 - pytest's signature
        """The check's numbers, its place and the next step, without a traceback."""
        if isinstance(excinfo.value, NotAsExpected):
            return told(excinfo.value.result)
        if isinstance(excinfo.value, HarnessError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the case is written, and what the check is called in harness's own reports."""
        return self.path, self.case.where.line - 1, f"{self.case.id} on {self.target}"
