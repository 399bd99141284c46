"""Where the time of a run went, as lines for the report."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.speed.process import Ended
from benchmarks.speed.stages import LIBRARIES, START


def portions(seconds: Mapping[str, float], whole: float) -> list[str]:
    """Each name with its part of ``whole``, the largest first."""
    longest = sorted(seconds.items(), key=lambda each: -each[1])
    return [f"{name} {100 * took / whole:.2g} %" for name, took in longest]


def stages_of(runs: Mapping[str, Ended]) -> list[str]:
    """The seconds of each stage, in the order of a run; of several runs side by side."""
    stages = dict.fromkeys(stage for run in runs.values() for stage in run.stages)
    names = " / ".join(runs)
    lines = [
        f"{stage}: {' / '.join(f'{run.stages.get(stage, 0.0):.2f}' for run in runs.values())} s" for stage in stages
    ]
    return [f"seconds by stage, {names}", *lines]


def after_start(run: Ended) -> float:
    """The seconds of a run without those that it takes however little there is to do."""
    return run.seconds - run.stages[START] - run.stages[LIBRARIES]
