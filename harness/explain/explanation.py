"""Explain one check: its result, other targets, the first node that differs, the smallest case, and a script.

:func:`choose_case` and :func:`choose_target` find the check that a user names; :class:`Explainer` explains it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.blame.other_targets import format_of, has_export, other_targets
from harness.engine.processes.limits import die_with_parent
from harness.engine.processes.temporary import temporary_folder
from harness.errors import UsageError
from harness.explain.calls import run_check, walk_graph, write_script
from harness.explain.failing_layer import FailingLayer, cut_layers, find_failing_layer
from harness.explain.failing_nodes import FailingNodes, failing_value, run_failing_nodes, write_failing_nodes
from harness.explain.process import ProcessEnd, SeparateProcess
from harness.explain.shrink import ShrunkCase, same_failure, shrink
from harness.inside.nodes.divergence import Walk
from harness.plan import plan
from harness.reproduction import REPRODUCED, why_no_script
from harness.result import Result, Symptom
from harness.spec.discovery import Specs
from harness.spec.language.case import Case, Expectation, FactoryModel
from harness.spec.quoting import suggestion
from harness.spec.targets import FORMATS, Target
from harness.spec.targets.sets import DEFAULT_SET

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_CASE_IDS = 6
"""The maximum number of case ids in a message."""

FAILING = frozenset({"failed", "error"})
STAGES_IN_RUNTIME = frozenset({"load", "run", "compare"})
SHRINK_CHECK_TIMEOUT_S = 20.0
RAISING_STAGES = ("export", "load", "run")
NOT_SHRUNK = frozenset({"timeout", "out-of-memory", "unavailable", "placement"})


# The explanation


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """One run of a script: its exit code and the lines that it printed.

    ``exit_code`` is None if the script did not end in time. ``reproduced`` is True if the script showed the failure
    that it was written for.
    """

    exit_code: int | None
    printed: tuple[str, ...]
    reproduced: bool


@dataclass(frozen=True, slots=True)
class Script:
    """A script for ``case`` that was run and showed the failure."""

    case: Case
    text: str
    run: ScriptRun


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that was found out about one check.

    ``other_results`` are the results of the same case on other targets. ``walk`` is the walk through the exported
    graph, or why it is not possible. ``shrunk`` is the smallest case, None if such a failure is not shrunk. ``script``
    is None if there is no script, and ``no_script`` says why. ``layer`` is the layer of the user's own model that fails
    alone: the smallest case and the script are then about it. ``nodes`` are the failing nodes of the file, alone.
    """

    case: Case
    target: Target
    result: Result
    other_results: tuple[Result, ...] = ()
    walk: Walk | str | None = None
    shrunk: ShrunkCase | None = None
    script: Script | None = None
    no_script: str | None = None
    layer: FailingLayer | str | None = None
    nodes: FailingNodes | str | None = None


class Explainer:
    """Explains checks, in a context manager. Calls ``report_step`` with each step as it begins."""

    def __init__(
        self,
        *,
        torch: bool,
        timeout: float,
        budget: float,
        report_step: Callable[[str], None],
        layers: bool = False,
    ) -> None:
        """``timeout`` applies to each check, ``budget`` to shrinking; both are in seconds.

        With ``layers``, a layer that is wrong by itself is a failure too.
        """
        self._layers = layers
        self._timeout, self._budget, self._report_step = timeout, budget, report_step
        self._exit_stack = ExitStack()
        self._scratch = self._exit_stack.enter_context(temporary_folder())
        self._process = SeparateProcess(self._scratch, torch=torch)
        self._exit_stack.callback(self._process.close)
        self._home = Path.cwd()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit_stack.close()

    def explain(self, case: Case, target: Target, nodes_folder: Path, *, private: bool = False) -> Explanation:
        """Explain ``case`` on ``target``. If the check passes or is skipped, the explanation is the result alone.

        The failing nodes are written to ``nodes_folder``. With ``private`` nothing else is looked for.
        """
        from harness.check.judging.layers import fails_by_layers_alone

        self._report_step(f"checking {case.id} on {target}")
        result = self.check(case, target, layers=self._layers)
        if result.status not in FAILING:
            return Explanation(case, target, result)
        if fails_by_layers_alone(result):
            # Smaller cases and a script would have to show a difference in the outputs.
            return Explanation(case, target, result, no_script="the outputs agree; only a layer is wrong")
        if not private:
            self._report_step("checking other targets")
        other_results = () if private else self._other_results(case, target, result)
        walk = self._walk(case, target, result)
        nodes = self._failing_nodes(case, target, result, walk, nodes_folder)
        if private:
            return Explanation(case, target, result, walk=walk, nodes=nodes)
        layer = self._failing_layer(case, target, result)
        smaller, failure = (layer.case, layer.result) if isinstance(layer, FailingLayer) else (case, result)
        shrunk = self._shrink(smaller, target, failure)
        script, no_script = self._script(smaller, target, failure, shrunk)
        return Explanation(case, target, result, other_results, walk, shrunk, script, no_script, layer, nodes)

    def check(self, case: Case, target: Target, seconds: float | None = None, *, layers: bool = False) -> Result:
        """The result of ``case`` on ``target``, also if the process crashes or does not end."""
        call = partial(run_check, layers=layers)
        result = self._process.call(call, case, target, self._home, seconds=seconds or self._timeout)
        if not isinstance(result, ProcessEnd):
            if target.exporter == "script" and result.status == "error":
                self._process.close()  # a script that failed leaves state behind that changes the next error
            return result
        symptom: Symptom = "timeout" if result.timed_out else "crash"
        return Result(case.id, str(target), "error", result.stage, symptom, result.description, where=str(case.where))

    def _other_results(self, case: Case, target: Target, result: Result) -> tuple[Result, ...]:
        # A failure before the file is loaded is the same on every runtime.
        further = [
            other
            for other in other_targets(target, format_of(case, target))
            if result.stage in STAGES_IN_RUNTIME or other.export != target.export
        ]
        results = [self.check(case, other) for other in further if has_export(case, other)]
        return tuple(other for other in results if other.status != "skipped")

    def _walk(self, case: Case, target: Target, result: Result) -> Walk | str | None:
        """The walk for a disagreement on an ONNX file; None for another failure."""
        if result.symptom != "mismatch" or result.stage != "compare":
            return None
        if (format_ := format_of(case, target)) != "onnx":
            return f"the file is {FORMATS[format_]}, which has no graph of ONNX nodes"
        if case.expect.raises is not None:
            return "eager torch raises an error, so there are no values to compare with"
        self._report_step("comparing the nodes of the graph")
        walk = self._process.call(walk_graph, case, target, self._home, seconds=self._timeout)
        return walk.description if isinstance(walk, ProcessEnd) else walk

    def _failing_nodes(
        self, case: Case, target: Target, result: Result, walk: Walk | str | None, folder: Path
    ) -> FailingNodes | str | None:
        """The failing nodes in a folder of their own, whose script was run; None if no node fails."""
        found = failing_value(walk, result) if isinstance(walk, Walk) else None
        if found is None:
            return None
        if target.runtime != "ort-cpu":
            return f"a script can run them on ort-cpu, not on {target.runtime}"
        value, from_torch = found
        self._report_step("cutting out the failing nodes")
        made = self._scratch / "nodes"
        call = partial(write_failing_nodes, from_torch=from_torch)
        nodes = self._process.call(call, case, target, self._home, value, made, seconds=self._timeout)
        if isinstance(nodes, ProcessEnd | str):
            return f"not shown alone: {nodes if isinstance(nodes, str) else nodes.description}"
        printed = run_failing_nodes(made, self._timeout)
        if printed is None:
            return "not shown alone: cut out of the graph they give the right answer"
        shutil.rmtree(folder / "test_data_set_0", ignore_errors=True)
        try:
            shutil.copytree(made, folder, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise UsageError(f"{folder}: cannot be written: {error}; use -o to name a file elsewhere") from error
        return FailingNodes(folder, nodes, printed)

    def _failing_layer(self, case: Case, target: Target, result: Result) -> FailingLayer | str | None:
        """The layer of the user's own model that fails alone, or that none does; None if that cannot be tried."""
        if not isinstance(case.model.model, FactoryModel) or not target.exports or case.expect.raises is not None:
            return None
        if result.symptom in NOT_SHRUNK or result.stage == "build":
            return None
        self._report_step(f"trying each layer alone, for at most {self._budget:g} s")
        layers = self._process.call(cut_layers, case, self._home, seconds=self._timeout)
        if isinstance(layers, ProcessEnd | str) or all(not each.path for each in layers):
            return None  # the model is a layer itself, or cannot be observed
        timeout = min(self._timeout, SHRINK_CHECK_TIMEOUT_S)
        return find_failing_layer(layers, result, lambda alone: self.check(alone, target, timeout), self._budget)

    def _shrink(self, case: Case, target: Target, result: Result) -> ShrunkCase | None:
        if result.symptom in NOT_SHRUNK or case.is_recorded or not target.exports:
            return None
        if case.expect.raises is None and not self._fails_without_expectations(case, target, result):
            return None
        self._report_step(f"shrinking the case, for at most {self._budget:g} s")
        timeout = min(self._timeout, SHRINK_CHECK_TIMEOUT_S)
        return shrink(
            case, lambda smaller: same_failure(result, self.check(smaller, target, timeout)), budget_s=self._budget
        )

    def _fails_without_expectations(self, case: Case, target: Target, result: Result) -> bool:
        """True if the failure does not depend on the spec's expectations, which do not apply to smaller cases."""
        if case.expect == Expectation():
            return True
        return same_failure(result, self.check(replace(case, expect=Expectation()), target))

    def _script(
        self, case: Case, target: Target, result: Result, shrunk: ShrunkCase | None
    ) -> tuple[Script | None, str | None]:
        """A script that was run and showed the failure: of the smallest case if possible, else of the case itself."""
        if (reason := why_no_script(case, target, result)) is not None:
            return None, reason
        last_run = ScriptRun(None, (), reproduced=False)
        for candidate in (case,) if shrunk is None or not shrunk.steps else (shrunk.case, case):
            candidate_result = self.check(candidate, target)
            text = self._process.call(write_script, candidate, target, candidate_result, seconds=self._timeout)
            if not isinstance(text, str):
                continue
            self._report_step("running the script")
            last_run = run_script(text, candidate_result, self._timeout)
            if last_run.reproduced:
                return Script(candidate, text, last_run), None
        ended = "did not end in time" if last_run.exit_code is None else f"ended with exit code {last_run.exit_code}"
        last_line = f": {last_run.printed[-1]}" if last_run.printed else ""
        return None, f"the script does not reproduce the failure; it {ended}{last_line}"


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
    ((_, targets),) = plan([case], specs.target_sets.select((DEFAULT_SET,)), (), None, by_default=True).jobs
    if len(targets) > 1:
        names = ", ".join(map(str, targets))
        raise UsageError(f"{case.id} has {len(targets)} targets; pick one with --target: {names}")
    return targets[0]


# The script


def run_script(text: str, result: Result, seconds: float) -> ScriptRun:
    """Run ``text`` in a separate Python, in an empty folder. ``result`` is the failure that it should show."""
    with temporary_folder() as folder:
        path = folder / "reproduction.py"
        path.write_text(text, encoding="utf-8")
        command = [sys.executable, "-W", "ignore", path.name]
        try:
            process = subprocess.run(  # noqa: S603 - harness wrote the text, from a validated case
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
                preexec_fn=die_with_parent,
                env={**os.environ, "TMPDIR": str(folder)},  # removes what a script that crashes leaves behind
            )
        except subprocess.TimeoutExpired:
            return ScriptRun(None, (), reproduced=False)
    printed = tuple(line.rstrip() for line in process.stdout.splitlines() if line.strip())
    return ScriptRun(process.returncode, printed, _is_reproduced(process.returncode, printed, result))


def _is_reproduced(exit_code: int, printed: tuple[str, ...], result: Result) -> bool:
    """Whether the last line, or the signal that killed the script, shows the failure and no other one."""
    if result.symptom == "crash":
        return exit_code < 0
    last = printed[-1] if printed else ""
    if exit_code != 1 or not last.startswith(f"{REPRODUCED}: "):
        return False
    raised = next((stage for stage in RAISING_STAGES if last.startswith(f"{REPRODUCED}: {stage} raises")), None)
    return raised == (result.stage if result.stage in RAISING_STAGES else None)
