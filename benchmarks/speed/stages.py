"""``harness`` with stamps: where the seconds of a run go, from the start of its process to its end.

    python -m benchmarks.speed.stages STAGES.json STARTED run ...

``STARTED`` is when the process was started, in seconds since the epoch: the system knows it to a second only.

The stages follow one another, so they sum up to the whole. No check runs while the fork server loads the libraries,
however many workers there are, nor while specs are read, other targets are run as evidence, or reports are written.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

START, SPECS, LIBRARIES, CHECKS, EVIDENCE, REPORTS, REST = (
    "harness itself being loaded",
    "specs read",
    "libraries loaded in the fork server",
    "checks",
    "other targets run as evidence",
    "reports written",
    "the rest",
)


class Stages:
    """The stage that a run is in, and the seconds of those that it was in."""

    def __init__(self, started: float) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._since = START, started

    def enter(self, stage: str, *, ago: float = 0.0) -> None:
        """Another stage began ``ago`` seconds before now."""
        now = max(self._since, time.time() - ago)
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now

    def during(self, stage: str, call: Callable[..., Any], then: str = REST) -> Callable[..., Any]:
        """``call`` as that stage."""

        @wraps(call)
        def told(*given: Any, **named: Any) -> Any:
            self.enter(stage)
            try:
                return call(*given, **named)
            finally:
                self.enter(then)

        return told

    def of_checks(self, run: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The engine's ``run``: until the first check begins, libraries are loaded."""

        @wraps(run)
        def told(*given: Any) -> Iterator[Any]:
            first = self._stage != EVIDENCE
            if first:
                self.enter(LIBRARIES)
            for number, entry in enumerate(run(*given)):
                if first and number == 0:
                    self.enter(CHECKS, ago=sum(entry.result.seconds.values()))
                yield entry
            if first:
                self.enter(REST)

        return told


def main(figures: Path, started: float, arguments: list[str]) -> None:
    """Run ``harness`` with ``arguments``, and write the seconds of each stage and the most memory held."""
    stages = Stages(started)
    from harness.cli import main as harness
    from harness.engine.local import LocalEngine

    pipeline: Any = import_module("harness.pipeline")
    stages.enter(REST)
    for name, stage in (("load_specs", SPECS), ("_run_other_targets", EVIDENCE), ("write", REPORTS)):
        setattr(pipeline, name, stages.during(stage, getattr(pipeline, name)))
    LocalEngine.run = stages.of_checks(LocalEngine.run)  # type: ignore[method-assign]
    try:
        harness(arguments)
    finally:
        stages.enter(REST)
        told = {"seconds": stages.seconds, "peak_mb": _peak_mb()}
        figures.write_text(json.dumps(told), encoding="utf-8")


def _peak_mb() -> float:
    """Of this program alone: what the system tells of an ended process counts the one that it was forked from."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
