"""Explain one check: its result, other targets, the first node that differs, the smallest case, and a script.

``harness.explain.targets`` finds the check that a user names; :class:`Explainer` explains it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.blame.other_targets import format_of, has_export, other_targets
from harness.check.settings import TIMEOUT, Settings, extra_seconds, with_time_limit
from harness.engine.processes.limits import die_with_parent
from harness.engine.processes.temporary import temporary_folder
from harness.errors import UsageError
from harness.explain.calls import run_check, walk_graph, write_script
from harness.explain.failing_layer import FailingLayer, cut_layers, find_failing_layer
from harness.explain.failing_nodes import (
    FailingNodes,
    failing_value,
    run_failing_nodes,
    write_failing_layer,
    write_failing_nodes,
)
from harness.explain.kept import opened_folders
from harness.explain.process import ProcessEnd, SeparateProcess
from harness.explain.shrink import ShrunkCase, same_failure, shrink
from harness.explain.targets import SideChecks, side_processes
from harness.inside.nodes.divergence import Walk
from harness.reproduction import REPRODUCED, why_no_script
from harness.result import Result, Symptom
from harness.spec.language.case import Case, Expectation, FactoryModel
from harness.spec.targets import FORMATS, Target

if TYPE_CHECKING:
    from typing_extensions import Self

FAILING = frozenset({"failed", "error"})
STAGES_IN_RUNTIME = frozenset({"load", "run", "compare"})
SHRINK_CHECK_TIMEOUT_S = 20.0
OTHERS_SHARE, OTHERS_AT_LEAST_S = 2.0, 30.0
"""How long other targets are asked: this many times the time of the check itself, and at least so many seconds."""
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

    ``other_results`` are the results of the same case on other targets, ``unanswered`` the targets that took too long
    and ``seconds`` how long they had. ``walk`` is the walk through the exported graph, or why it is not possible.
    ``shrunk`` is the smallest case, None if such a failure is not shrunk. ``script`` is None if there is no script, and
    ``no_script`` says why. ``layer`` is the layer of the user's own model that fails alone: the smallest case and the
    script are then about it. ``nodes`` are the failing nodes of the file, alone.
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
    unanswered: tuple[Target, ...] = ()
    seconds: float = 0.0


class Explainer:
    """Explains checks, in a context manager. Calls ``report_step`` with each step as it begins."""

    def __init__(
        self,
        *,
        torch: bool,
        timeout: float | None,
        budget: float,
        report_step: Callable[[str], None],
        layers: bool = False,
        strict_ulp: int | None = None,
    ) -> None:
        """``timeout`` applies to each check, ``budget`` to shrinking; both are in seconds. None grows with the model.

        With ``layers``, a layer that is wrong by itself is a failure too; ``strict_ulp`` is as in :class:`Settings`.
        """
        self._layers, self._strict_ulp = layers, strict_ulp
        self._limits = with_time_limit(Settings(), timeout)
        self._budget, self._report_step = budget, report_step
        self._exit_stack = ExitStack()
        self._scratch = self._exit_stack.enter_context(temporary_folder())
        self._torch = torch
        self._process = self._new_process(self._scratch)
        self._home = Path.cwd()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit_stack.close()

    @property
    def _timeout(self) -> float:
        """The seconds of a call, as far as the model's size is known."""
        return (self._limits.timeout or TIMEOUT) + extra_seconds(self._process.model_size, self._limits)

    @property
    def opened_folders(self) -> set[str]:
        """The folders from which files of the user were read so far."""
        return opened_folders(self._scratch)

    def explain(self, case: Case, target: Target, nodes_folder: Path, *, private: bool = False) -> Explanation:
        """Explain ``case`` on ``target``. If the check passes or is skipped, the explanation is the result alone.

        The failing nodes are written to ``nodes_folder``. With ``private`` nothing else is looked for.
        """
        self._report_step(f"checking {case.id} on {target}")
        began = time.monotonic()
        result = self._check_in(self._process, case, target, self._timeout, layers=self._layers)
        if result.status not in FAILING:
            return Explanation(case, target, result)
        if result.layers_alone:
            # Smaller cases and a script would have to show a difference in the outputs.
            alone = self._failing_nodes(case, target, result, None, nodes_folder)
            why = "the outputs agree; only a layer is wrong"
            return Explanation(case, target, result, no_script=why, nodes=alone)
        seconds = max(OTHERS_AT_LEAST_S, OTHERS_SHARE * (time.monotonic() - began))
        others = None if private else self._ask_others(case, target, result, seconds)
        walk = self._walk(case, target, result)
        nodes = self._failing_nodes(case, target, result, walk, nodes_folder)
        if others is None:
            return Explanation(case, target, result, walk=walk, nodes=nodes)
        answers, unanswered = others.results()
        other_results = tuple(other for other in answers if other.status != "skipped")
        layer = self._failing_layer(case, target, result)
        smaller, failure = (layer.case, layer.result) if isinstance(layer, FailingLayer) else (case, result)
        shrunk = self._shrink(smaller, target, failure)
        script, no_script = self._script(smaller, target, failure, shrunk)
        return Explanation(
            case, target, result, other_results, walk, shrunk, script, no_script, layer, nodes, unanswered, seconds
        )

    def check(self, case: Case, target: Target, seconds: float | None = None) -> Result:
        """The result of ``case`` on ``target`` without its layers, also if the process crashes or does not end."""
        return self._check_in(self._process, case, target, seconds or self._timeout)

    def _new_process(self, scratch: Path) -> SeparateProcess:
        scratch.mkdir(exist_ok=True)
        process = SeparateProcess(scratch, torch=self._torch)
        self._exit_stack.callback(process.close)
        return process

    def _check_in(
        self, process: SeparateProcess, case: Case, target: Target, seconds: float, *, layers: bool | None = None
    ) -> Result:
        per_gib = 0.0 if self._process.model_size else self._limits.timeout_per_gib  # at the first check
        call = partial(run_check, layers=layers, strict_ulp=self._strict_ulp)
        result = process.call(call, case, target, self._home, seconds=seconds, per_gib=per_gib)
        if not isinstance(result, ProcessEnd):
            if target.exporter == "script" and result.status == "error":
                process.close()  # a script that failed leaves state behind that changes the next error
            return result
        symptom: Symptom = "timeout" if result.timed_out else "crash"
        if result.verdict is not None:
            return result.verdict.lost(result.stage, symptom, result.description, (), ())
        return Result(case.id, str(target), "error", result.stage, symptom, result.description, where=str(case.where))

    def _ask_others(self, case: Case, target: Target, result: Result, seconds: float) -> SideChecks:
        """Begin to check the case on other targets, for at most ``seconds``."""
        self._report_step("checking other targets")
        # A failure before the file is loaded is the same on every runtime.
        further = [
            other
            for other in other_targets(target, format_of(case, target))
            if (result.stage in STAGES_IN_RUNTIME or other.export != target.export) and has_export(case, other)
        ]

        def check(process: SeparateProcess, other: Target, left: float) -> Result | None:
            answer = self._check_in(process, case, other, min(left, self._timeout))
            return None if answer.symptom == "timeout" and left < self._timeout else answer

        count = side_processes(further, self._process.memory)
        processes = [self._new_process(self._scratch / f"others-{number}") for number in range(count)]
        checks = SideChecks(processes or [self._process], further, check, seconds)
        if not processes:  # there is no memory for the model twice
            checks.results()
        return checks

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
        value = found[0] if found else next((each.value for each in result.layers if each.wrong and each.value), None)
        if value is None:
            return None
        if target.runtime != "ort-cpu":
            return f"a script can run them on ort-cpu, not on {target.runtime}"
        self._report_step("cutting out the failing nodes")
        made = self._scratch / "nodes"
        call = partial(write_failing_nodes, from_torch=found[1]) if found else partial(write_failing_layer)
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
        last_run, write = ScriptRun(None, (), reproduced=False), partial(write_script, strict_ulp=self._strict_ulp)
        for candidate in (case,) if shrunk is None or not shrunk.steps else (shrunk.case, case):
            candidate_result = self.check(candidate, target)
            text = self._process.call(write, candidate, target, candidate_result, seconds=self._timeout)
            if not isinstance(text, str):
                continue
            self._report_step("running the script")
            last_run = run_script(text, candidate_result, self._timeout)
            if last_run.reproduced:
                return Script(candidate, text, last_run), None
        ended = "did not end in time" if last_run.exit_code is None else f"ended with exit code {last_run.exit_code}"
        last_line = f": {last_run.printed[-1]}" if last_run.printed else ""
        return None, f"the script does not reproduce the failure; it {ended}{last_line}"


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
