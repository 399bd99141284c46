"""The time that two draws and two calls add to the checks of the shipped specs.

    python benchmarks/draws_cost.py [EVERY]

Every EVERY-th case (default: 8) is checked on the default targets in this process, alternately as harness does it, at
two sets of inputs and each twice in a row, and at one set with one call. Both export anew. The time is this process's
own CPU time, on one thread, so that other load on the machine matters little; the smaller of two rounds counts.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import process_time
from unittest import mock

import torch

from harness.check import check as checking
from harness.check.cache.artifacts import ArtifactCache
from harness.check.judging.judge import Answer
from harness.check.module.prepared_case import PreparedCase
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.model.answer import Reference
from harness.runtimes import Session
from harness.spec.discovery import load_specs
from harness.spec.language.case import Case
from harness.spec.targets import Target

ROUNDS = 2
GOAL = 0.08
SETTINGS = Settings(timeout=None, latency=False)


def main() -> None:
    """Print the time of both, and what the second draw and the second call add."""
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    specs = load_specs(["specs"], allow_import=False)
    targets = specs.target_sets.select(("default",))
    cases = [case for case in specs.cases if case.expect.raises is None][::every]
    _seconds(cases[0], targets)  # the first export loads what the later ones use
    whole = single = 0.0
    for case in cases:
        pairs = [(_seconds(case, targets), _seconds_single(case, targets)) for _ in range(ROUNDS)]
        whole += min(seconds for seconds, _ in pairs)
        single += min(seconds for _, seconds in pairs)
    checks = len(cases) * len(targets)
    print(f"{len(cases)} cases, {checks} checks: {whole:.1f} s, and {single:.1f} s with one draw and one call")
    print(f"two draws and two calls add {whole / single - 1:.1%} (goal: at most {GOAL:.0%})")


def _seconds(case: Case, targets: Sequence[Target]) -> float:
    began = process_time()
    with tempfile.TemporaryDirectory() as folder:
        prepared = PreparedCase(case, ArtifactCache(None, Path(folder)))
        for target in targets:
            checking.check(prepared, target, SETTINGS, Clock())
    return process_time() - began


def _seconds_single(case: Case, targets: Sequence[Target]) -> float:
    with mock.patch.object(checking, "run_twice", _run_once):
        return _seconds(replace(case, draws=1), targets)


def _run_once(
    references: Sequence[Reference], session: Session, _open_session: Callable[[], Session]
) -> tuple[list[Reference], list[Answer], bool]:
    return list(references), [each.comparable_part(session.run(each.inputs)) for each in references], True


if __name__ == "__main__":
    main()
