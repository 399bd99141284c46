"""Profiles of a run as lines for the report."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.speed.process import Finished
from benchmarks.speed.stages import LIBRARIES, START


def portions(seconds: Mapping[str, float], whole: float) -> list[str]:
    """Return each name with its share of ``whole``, the largest first."""
    longest = sorted(seconds.items(), key=lambda each: -each[1])
    return [f"{name} {100 * took / whole:.2g} %" for name, took in longest]


def stages_of(runs: Mapping[str, Finished]) -> list[str]:
    """Return the seconds of each stage, in the order of a run, for several runs side by side."""
    stages = dict.fromkeys(stage for run in runs.values() for stage in run.stages)
    names = " / ".join(runs)
    lines = [
        f"{stage}: {' / '.join(f'{run.stages.get(stage, 0.0):.2f}' for run in runs.values())} s" for stage in stages
    ]
    return [f"seconds by stage, {names}", *lines]


def after_start(run: Finished) -> float:
    """Return the seconds of a run without the start and the loading of libraries."""
    return run.seconds - run.stages[START] - run.stages[LIBRARIES]
