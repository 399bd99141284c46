"""The check that a user names, and the checks of its case on other targets, side by side with the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import psutil

from harness.environment import usable_cpus
from harness.errors import UsageError
from harness.explain.process import SeparateProcess
from harness.plan import plan
from harness.result import Result
from harness.spec.discovery import Specs
from harness.spec.language.case import Case
from harness.spec.quoting import suggestion
from harness.spec.targets import Target
from harness.spec.targets.sets import DEFAULT_SET

MAX_CASE_IDS = 6
"""The maximum number of case ids in a message."""
MAX_PROCESSES = 3
SLOWEST = "reference"
"""The runtime that is asked last: it computes in Python."""


class SideChecks:
    """Checks on several targets, each group in a process of its own, while the caller goes on.

    ``check`` gets the process, the target and the seconds that are left. Targets that it has not answered after
    ``seconds`` in all have no result.
    """

    def __init__(
        self,
        processes: Sequence[SeparateProcess],
        targets: Sequence[Target],
        check: Callable[[SeparateProcess, Target, float], Result | None],
        seconds: float,
    ) -> None:
        self._targets, self._check = targets, check
        self._until = time.monotonic() + seconds
        self._results: dict[str, Result] = {}
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._ask, args=(process, group), daemon=True)
            for process, group in zip(processes, _groups(targets, len(processes)), strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def results(self) -> tuple[tuple[Result, ...], tuple[Target, ...]]:
        """The results in the order of the targets, and the targets without one. Waits for the checks to end."""
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        answered = tuple(self._results[str(each)] for each in self._targets if str(each) in self._results)
        return answered, tuple(each for each in self._targets if str(each) not in self._results)

    def _ask(self, process: SeparateProcess, group: Sequence[Target]) -> None:
        for target in group:
            left = self._until - time.monotonic()
            if left <= 0:
                return
            try:
                result = self._check(process, target, left)
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for the results
                self._errors.append(error)
                return
            if result is not None:
                self._results[str(target)] = result


def side_processes(targets: Sequence[Target], bytes_each: int) -> int:
    """How many processes check ``targets`` beside the caller's: as many as there are cores and memory for; maybe 0."""
    families = len({target.exporter for target in targets})
    room = psutil.virtual_memory().available // max(2 * bytes_each, 1)
    return min(families, max(1, usable_cpus() - 1), MAX_PROCESSES, room)


def _groups(targets: Sequence[Target], count: int) -> list[list[Target]]:
    """The targets for each of ``count`` processes: those of one exporter share what they build and export."""
    groups: list[list[Target]] = [[] for _ in range(count)]
    families: dict[str, list[Target]] = {}
    for target in sorted(targets, key=lambda each: each.runtime == SLOWEST):
        families.setdefault(target.exporter, []).append(target)
    for family in families.values():
        min(groups, key=len).extend(family)
    return groups


# The check that the user names


def choose_case(cases: Sequence[Case], text: str) -> Case:
    """The case whose id is ``text``, else the only case whose id contains it.

    Raises :class:`UsageError` if there is no such case, or more than one.
    """
    matching = [case for case in cases if case.id == text] or [case for case in cases if text in case.id]
    if len(matching) == 1:
        return matching[0]
    if not matching:
        advice = suggestion(text, [case.id for case in cases], "harness list shows the cases")
        raise UsageError(f"no case named {text}; {advice}")
    ids = ", ".join(case.id for case in matching[:MAX_CASE_IDS]) + (", ..." if len(matching) > MAX_CASE_IDS else "")
    raise UsageError(f"{text} matches {len(matching)} cases; pick one: {ids}")


def choose_target(specs: Specs, case: Case, text: str | None) -> Target:
    """The one target that ``text`` names; if ``text`` is None, the only target on which a run checks ``case``.

    Raises :class:`UsageError` for several targets, and for one that cannot check ``case``.
    """
    if text is None:
        return _only_target(specs, case)
    targets = specs.target_sets.select((text,))
    if len(targets) > 1:
        raise UsageError(f"--target {text} names {len(targets)} targets; pick one: {', '.join(map(str, targets))}")
    plan([case], targets, (), None)
    return targets[0]


def _only_target(specs: Specs, case: Case) -> Target:
    sets = specs.target_sets
    ((_, targets),) = plan([case], sets.select((DEFAULT_SET,)), (), None, by_default=sets).jobs
    if len(targets) > 1:
        names = ", ".join(map(str, targets))
        raise UsageError(f"{case.id} has {len(targets)} targets; pick one with --target: {names}")
    return targets[0]
