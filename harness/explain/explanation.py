"""Which check is meant: a case by its id or a part of it, and a target.

The targets that tell most about a failure on another: one thing is different in each.

Explains one check: the verdict, who is to blame, where it begins, the smallest case, and a script that shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.blame.other_targets import EVIDENCE_OPSETS, has_export
from harness.engine.processes.temporary import temporary_folder
from harness.errors import UsageError
from harness.explain.attempt import Attempt, attempt, scripted, verified, walked
from harness.explain.process import Contained, Gone
from harness.explain.shrink import Shrunk, same_failure, shrink
from harness.inside.divergence import Walk
from harness.plan import plan
from harness.registry import plugins
from harness.reproduction import obstacle
from harness.result import Result, Symptom
from harness.spec.discovery import Specs
from harness.spec.language.case import Case, Expectation
from harness.spec.quoting import suggestion
from harness.spec.targets import FILE, Target

if TYPE_CHECKING:
    from typing_extensions import Self


SHOWN = 6


def choose_case(cases: Sequence[Case], text: str) -> Case:
    """The case whose id is ``text``, else the only one whose id holds it.

    Raises :class:`UsageError` where there is none, or more than one.
    """
    exact = [case for case in cases if case.id == text]
    found = exact or [case for case in cases if text in case.id]
    if len(found) == 1:
        return found[0]
    if not found:
        right = suggestion(text, [case.id for case in cases], "harness list shows the cases")
        raise UsageError(f"{text}: no case is called so; {right}")
    names = ", ".join(case.id for case in found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
    raise UsageError(f"{text}: part of the ids of {len(found)} cases; name one of {names}")


def choose_target(specs: Specs, case: Case, text: str | None) -> Target:
    """The one target that ``text`` names; None where there is only one that a run takes ``case`` to.

    Raises :class:`UsageError` for several, or one that cannot take ``case``.
    """
    if text is None:
        return _only_target(specs, case)
    found = specs.target_sets.select((text,))
    if len(found) > 1:
        raise UsageError(f"--target {text}: names {len(found)} targets; one of {', '.join(map(str, found))}")
    plan([case], found, (), None)
    return found[0]


def _only_target(specs: Specs, case: Case) -> Target:
    ((_, targets),) = plan([case], specs.target_sets.select(("default",)), (), None).jobs
    if len(targets) > 1:
        raise UsageError(f"{case.id}: --target says where it fails; one of {', '.join(map(str, targets))}")
    return targets[0]


def neighbours(target: Target) -> tuple[Target, ...]:
    """The other exporters, the other opsets, the corrected lowerings, and the other runtimes that are here."""
    return tuple({str(other): other for other in _all(target) if str(other) != str(target)}.values())


def _all(target: Target) -> Iterator[Target]:
    if target.exporter != FILE:
        yield from _exported(target)
    for name, runtime in plugins("runtimes").items():
        if name != target.runtime and runtime.takes == _format(target) and runtime.availability().present:
            yield replace(target, runtime=name, options={})


def _exported(target: Target) -> Iterator[Target]:
    for name, exporter in plugins("exporters").items():
        if exporter.makes != _format(target):
            continue
        opsets: tuple[int | None, ...] = EVIDENCE_OPSETS.get(name, (None,))
        yield from (replace(target, exporter=name, opset=opset, fixes=False) for opset in opsets)
    yield replace(target, fixes=not target.fixes)


def _format(target: Target) -> str:
    return "onnx" if target.exporter == FILE else str(plugins("exporters")[target.exporter].makes)


FAILING = frozenset({"failed", "error"})
LOADED = frozenset({"load", "run", "compare"})
LONGEST_STEP = 20.0
NOT_SHRUNK = frozenset({"timeout", "out-of-memory", "unavailable", "placement"})


@dataclass(frozen=True, slots=True)
class Script:
    """A script for ``case`` that was run and showed the failure."""

    case: Case
    text: str
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that was found out about one check.

    ``elsewhere`` are the results of the same case on other targets. ``walk`` is the walk through the exported graph,
    or why there is none. ``shrunk`` is the smallest case, None where the failure is not one to shrink. ``script`` is
    None where there is none, and ``no_script`` says why.
    """

    case: Case
    target: Target
    result: Result
    elsewhere: tuple[Result, ...] = ()
    walk: Walk | str | None = None
    shrunk: Shrunk | None = None
    script: Script | None = None
    no_script: str | None = None


class Explainer:
    """Explains checks of one session; ``tell`` hears what is being done. Use as a context manager."""

    def __init__(self, *, torch: bool, timeout: float, budget: float, tell: Callable[[str], None]) -> None:
        """``timeout`` is for a check, ``budget`` for shrinking, both in seconds."""
        self._timeout, self._budget, self._tell = timeout, budget, tell
        self._open = ExitStack()
        self._scratch = self._open.enter_context(temporary_folder())
        self._contained = Contained(self._scratch, torch=torch)
        self._open.callback(self._contained.close)
        self._home = Path.cwd()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def explain(self, case: Case, target: Target) -> Explanation:
        """Everything about ``case`` on ``target``; of a check that passes, or could not begin, its result alone."""
        self._tell(f"checking {case.id} on {target}")
        result = self.check(case, target)
        if result.status not in FAILING:
            return Explanation(case, target, result)
        self._tell("asking other targets")
        # What fails before it is loaded fails on every runtime.
        telling = [other for other in neighbours(target) if result.stage in LOADED or other.export != target.export]
        others = [self.check(case, other) for other in telling if has_export(case, other)]
        elsewhere = tuple(other for other in others if other.status != "skipped")
        walk = self._walk(case, target, result)
        shrunk = self._shrunk(case, target, result)
        script, no_script = self._script(case, target, result, shrunk)
        return Explanation(case, target, result, elsewhere, walk, shrunk, script, no_script)

    def check(self, case: Case, target: Target, seconds: float | None = None) -> Result:
        """What ``case`` comes to on ``target``, whatever becomes of the process that finds out."""
        answer = self._contained.ask(verified, case, target, self._home, seconds=seconds or self._timeout)
        if not isinstance(answer, Gone):
            if target.exporter == "script" and answer.status == "error":
                self._contained.close()  # a failed script leaves state behind that changes what the next one says
            return answer
        symptom: Symptom = "timeout" if answer.overdue else "crash"
        where = str(case.where)
        return Result(case.id, str(target), "error", answer.stage, symptom, answer.how, where=where)

    def _walk(self, case: Case, target: Target, result: Result) -> Walk | str | None:
        """The walk, for a disagreement over an ONNX file."""
        if result.symptom != "mismatch" or result.stage != "compare":
            return None
        if target.exporter != FILE and not target.exporter.startswith("onnx-"):
            return "the exported program is TorchScript, which has no graph of ONNX nodes to walk"
        if case.expect.raises is not None:
            return "eager torch refuses the input, so there is nothing to hold the nodes against"
        self._tell("walking the graph")
        answer = self._contained.ask(walked, case, target, self._home, seconds=self._timeout)
        return answer.how if isinstance(answer, Gone) else answer

    def _shrunk(self, case: Case, target: Target, result: Result) -> Shrunk | None:
        if result.symptom in NOT_SHRUNK or case.is_recorded:
            return None
        if case.expect.raises is None and not self._fails_alone(case, target, result):
            return None
        self._tell(f"shrinking the case, for {self._budget:g} s at most")
        limit = min(self._timeout, LONGEST_STEP)
        return shrink(
            case, lambda smaller: same_failure(result, self.check(smaller, target, limit)), budget_s=self._budget
        )

    def _fails_alone(self, case: Case, target: Target, result: Result) -> bool:
        """True where the failure is there without the spec's expectations, which hold for one form of the case only."""
        if case.expect == Expectation():
            return True
        return same_failure(result, self.check(replace(case, expect=Expectation()), target))

    def _script(
        self, case: Case, target: Target, result: Result, shrunk: Shrunk | None
    ) -> tuple[Script | None, str | None]:
        """A script that was run and shows the failure: of the smallest case, else of the case itself."""
        if (why := obstacle(case, target, result)) is not None:
            return None, why
        last = Attempt(None, (), shows=False)
        for one in (case,) if shrunk is None or not shrunk.steps else (shrunk.case, case):
            seen = self.check(one, target)
            text = self._contained.ask(scripted, one, target, seen, seconds=self._timeout)
            if not isinstance(text, str):
                continue
            self._tell("running the script")
            last = attempt(text, seen, self._timeout)
            if last.shows:
                return Script(one, text, last), None
        ended = "did not end in time" if last.code is None else f"ended with exit code {last.code}"
        said = f": {last.printed[-1]}" if last.printed else ""
        return None, f"the script that was written does not show the failure; run by itself it {ended}{said}"
