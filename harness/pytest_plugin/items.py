"""A spec as a pytest file, and each of its checks as a test.

The checks of a case run together in one worker process, as in ``harness run``, and the worker is reused from test to
test. A failing test shows the numbers, the place in the spec and the next step, without a traceback.

A known failure is a strict ``xfail`` that accepts only the failure in the list. A check that fails in another way
fails, and pytest fails one that passes, as it does for every strict ``xfail``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from harness.check.cache.artifacts import open_cache
from harness.check.settings import Settings, cache_folder, with_time_limit
from harness.engine.job import Job
from harness.engine.local import LocalEngine
from harness.engine.processes.temporary import temporary_folder
from harness.environment import versions
from harness.errors import HarnessError, RequestError, UsageError, printable
from harness.gate import final_result
from harness.plan import plan
from harness.report.wording import (
    CaseName,
    comparison_line,
    comparisons,
    explanation,
    is_explained_by,
    main_comparison,
    next_step,
    outcome,
)
from harness.result import Result
from harness.search_path import InstalledFirst
from harness.spec.discovery import Specs, load_specs
from harness.spec.known_failures import KnownFailure, entries_by_check, load_known_failures
from harness.spec.language.case import Case
from harness.spec.targets import Target
from harness.spec.targets.sets import DEFAULT_SET


class SpecFile(pytest.File):
    """The checks of a spec: its cases on the targets of pytest's options, or of the ``targets.yaml`` of its folder."""

    def collect(self) -> Iterable[Check]:
        """Every check. Raises the problems of the spec; :meth:`repr_failure` shows them as harness does."""
        with InstalledFirst():
            return list(self._checks())

    def _checks(self) -> Iterator[Check]:
        words = self.config.getoption("harness_targets") or self.config.getini("harness_targets") or ["default"]
        specs, targets, refusal = self._loaded(words)
        listed = [entry for entry in load_known_failures(specs.known_failures) if entry.applies(versions())]
        jobs = plan(
            specs.cases, targets, (), None, by_default=specs.target_sets if list(words) == [DEFAULT_SET] else None
        ).jobs
        checks = [(case, target) for case, targets in jobs for target in targets]
        entries_of = entries_by_check(listed, [(case.id, str(target)) for case, target in checks])
        for (case, target), entries in zip(checks, entries_of, strict=True):
            yield Check.create(self, case, target, entries, refusal)

    def _loaded(self, words: Sequence[str]) -> tuple[Specs, tuple[Target, ...], str]:
        """The specs, their targets, and why their checks may not run: the spec or a target would run code.

        An error here would keep pytest from running every other file, so that missing consent fails the checks instead.
        """
        try:
            return (*self._load(words, allow_import=_flags(self.config)["allow_import"]), "")
        except RequestError as error:
            with suppress(RequestError):  # any other mistake in the spec is reported together with this one
                return (*self._load(words, allow_import=True), _in_words_of_pytest(error).splitlines()[0])
            raise

    def _load(self, words: Sequence[str], *, allow_import: bool) -> tuple[Specs, tuple[Target, ...]]:
        specs = load_specs([os.path.relpath(self.path)], allow_import=allow_import)  # imports nothing
        return specs, specs.target_sets.select(words)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:  # noqa: ARG002 - pytest's signature
        """The problems of the spec with their places, without a traceback."""
        if isinstance(excinfo.value, HarnessError):
            return _in_words_of_pytest(excinfo.value)
        return super().repr_failure(excinfo)


def _flags(config: pytest.Config) -> dict[str, bool]:
    """The options of the command line or of the configuration, by their names in ``harness run``."""
    names = ("allow_import", "strict")
    return {name: bool(config.getoption(f"harness_{name}") or config.getini(f"harness_{name}")) for name in names}


def _in_words_of_pytest(error: HarnessError) -> str:
    return str(error).replace("pass --allow-import", "pass --harness-allow-import")


RESULTS = pytest.StashKey[dict[str, Result]]()


class Check(pytest.Item):
    """One case on one target, named ``case[target]``; the matrix point of a case comes before the target."""

    case: Case
    target: Target
    entries: Sequence[KnownFailure]
    refusal: str

    @classmethod
    def create(
        cls, parent: SpecFile, case: Case, target: Target, entries: Sequence[KnownFailure], refusal: str = ""
    ) -> Check:
        """The check of ``case`` on ``target``. ``entries`` are the known failures that apply and match it.

        With a ``refusal``, it runs nothing and fails with this line.
        """
        name = f"{CaseName.parse(case.id).short}[{target}]"
        # The id is given as text, which pytest parses as it does the ids that it has stored for --lf.
        check: Check = cls.from_parent(parent, name=name, nodeid=f"{parent.nodeid}::{name}")
        check.case, check.target, check.entries, check.refusal = case, target, entries, refusal
        if entries:
            reason = "; ".join(dict.fromkeys(" ".join(filter(None, (one.reason, one.issue))) for one in entries))
            check.add_marker(pytest.mark.xfail(reason=reason, raises=KnownToFail, strict=True))
        return check

    def runtest(self) -> None:
        """Run the check in a worker process, as ``harness run`` does."""
        if self.refusal:
            raise UsageError(self.refusal)
        with InstalledFirst():
            result = final_result(self._result(), self.entries, strict=_flags(self.config)["strict"])
        self.user_properties.extend(properties(result))
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

    def _result(self) -> Result:
        """The result of the check. The checks of a case share their preparation, so the first one runs all of them.

        Under pytest-xdist, the others may belong to another process; then each process runs its own.
        """
        results: dict[str, Result] = self.parent.stash.setdefault(RESULTS, {}) if self.parent else {}
        if self.nodeid not in results:
            same_case = [self] if hasattr(self.config, "workerinput") else [*self._selected_checks_of_case()]
            runner = CheckRunner.of(self.config)
            by_target = runner.run(self.case, [check.target for check in same_case])
            results.update({check.nodeid: by_target[str(check.target)] for check in same_case})
        return results.pop(self.nodeid)

    def _selected_checks_of_case(self) -> Iterator[Check]:
        """The selected checks of the same case, including this one."""
        return (item for item in self.session.items if isinstance(item, Check) and item.case is self.case)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:  # noqa: ARG002 - pytest's signature
        """The numbers of the check, its place and the next step, without a traceback."""
        if isinstance(excinfo.value, NotAsExpected):
            return failure_text(excinfo.value.result, _flags(self.config))
        if isinstance(excinfo.value, HarnessError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        """The place of the case, and the name of the check in harness's own reports."""
        return self.path, self.case.where.line - 1, f"{self.case.id} on {self.target}"


class NotAsExpected(Exception):
    """A check failed, or could not finish; ``result`` says how."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"{outcome(result)}: {explanation(result)}")
        self.result = result


class KnownToFail(NotAsExpected):
    """A check failed as the list of known failures says."""


def failure_text(result: Result, flags: Mapping[str, bool]) -> str:
    """The outcome of a check with its numbers and blame, the evidence, the place in the spec, and the next step."""
    return "\n".join(map(printable, _failure_lines(result, flags)))


def _failure_lines(result: Result, flags: Mapping[str, bool]) -> Iterator[str]:
    further = [
        f"{label}: {comparison_line(comparison)}"
        for label, comparison in comparisons(result)
        if not comparison.passed and not is_explained_by(result, comparison)
    ]
    blame = f" (blame: {result.blame})" if result.blame else ""
    first, *rest = [line for line in (explanation(result), *further) if line] or [""]
    yield f"{outcome(result)}{blame}: {first}"
    yield from (f"  {line}" for line in (*rest, *result.evidence))
    if result.where:
        yield f"{result.where}: {result.case} on {result.target}"
    if step := next_step(result, flags):
        yield step.sentence + (f":\n  {step.command}" if step.command else "")


def properties(result: Result) -> Iterator[tuple[str, object]]:
    """The properties of a test in pytest's reports, such as its JUnit XML."""
    yield "case", result.case
    yield "target", result.target
    yield from ((key, value) for key in ("status", "stage", "symptom", "blame") if (value := getattr(result, key)))
    if (comparison := main_comparison(result)) is not None:
        for key in ("max_abs", "max_rel", "max_ulp"):
            if (error := getattr(comparison, key)) is not None:
                yield key, error


class CheckRunner:
    """Runs the checks of a pytest session in one worker process, which starts with the first check."""

    def __init__(self, timeout: float | None) -> None:
        self._settings = with_time_limit(Settings(latency=False, cache=cache_folder()), timeout)
        self._resources = ExitStack()
        self._engine: LocalEngine | None = None
        self._scratch = Path()

    @classmethod
    def of(cls, config: pytest.Config) -> CheckRunner:
        """The runner of the session; it is closed with the session."""
        if RUNNER not in config.stash:
            runner = config.stash[RUNNER] = cls(config.getoption("harness_timeout"))
            config.add_cleanup(runner.close)
        return config.stash[RUNNER]

    def run(self, case: Case, targets: Sequence[Target]) -> dict[str, Result]:
        """The results of ``case`` by target, before known failures are applied. A crash or a timeout ends one check.

        Raises :class:`harness.errors.HarnessError` if the checks cannot run.
        """
        engine = self._engine or self._start()
        job = Job(case, tuple(targets), self._settings, self._journal, self._scratch, Path.cwd())
        try:
            return {entry.result.target: entry.result for entry in engine.run_and_keep_workers([job])}
        except BaseException:  # such as pytest-timeout's: the worker is still busy, so the next test gets a new one
            self.close()
            raise

    def close(self) -> None:
        """End the worker and delete its files."""
        self._resources.close()
        self._engine = None

    @property
    def _journal(self) -> Path:
        return self._scratch / "journal.jsonl"

    def _start(self) -> LocalEngine:
        if (cache := self._settings.cache) is not None:
            try:
                open_cache(cache)
            except OSError as error:
                message = f"cache {cache}: {error.strerror}; set HARNESS_CACHE to a folder that can be written"
                raise UsageError(message) from error
        self._scratch = self._resources.enter_context(temporary_folder())
        self._engine = LocalEngine(1, self._journal, self._scratch)
        self._resources.callback(self._engine.close)
        return self._engine


RUNNER = pytest.StashKey[CheckRunner]()
