"""Runs ``harness`` and writes the seconds of each stage, from the start of its process to its end.

    python -m benchmarks.speed.stages STAGES.json STARTED run ...

``STARTED`` is when the process was started, in seconds since the epoch; the system records only whole seconds.

The stages follow one another, so their sum is the total. With any number of workers, no check runs while the fork
server loads the libraries, while specs are read, while other targets are run as evidence, or while reports are written.
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
    "loading harness",
    "reading specs",
    "loading libraries in the fork server",
    "checks",
    "running other targets as evidence",
    "writing reports",
    "the rest",
)


class Stages:
    """The current stage of a run, and the seconds of each earlier stage."""

    def __init__(self, started: float) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._since = START, started

    def enter(self, stage: str, *, ago: float = 0.0) -> None:
        """Enter a stage that began ``ago`` seconds before now."""
        now = max(self._since, time.time() - ago)
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now

    def during(self, stage: str, call: Callable[..., Any], then: str = REST) -> Callable[..., Any]:
        """Return ``call`` so that it runs as ``stage``."""

        @wraps(call)
        def staged(*arguments: Any, **named: Any) -> Any:
            self.enter(stage)
            try:
                return call(*arguments, **named)
            finally:
                self.enter(then)

        return staged

    def of_checks(self, run: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """Return the engine's ``run`` with stages; until the first check begins, libraries are loaded."""

        @wraps(run)
        def staged(*arguments: Any) -> Iterator[Any]:
            first = self._stage != EVIDENCE
            if first:
                self.enter(LIBRARIES)
            for number, entry in enumerate(run(*arguments)):
                if first and number == 0:
                    self.enter(CHECKS, ago=sum(entry.result.seconds.values()))
                yield entry
            if first:
                self.enter(REST)

        return staged


def main(figures: Path, started: float, arguments: list[str]) -> None:
    """Run ``harness`` with ``arguments``, and write the seconds of each stage and the peak memory."""
    stages = Stages(started)
    from harness.cli import main as harness
    from harness.engine.local import LocalEngine

    pipeline: Any = import_module("harness.pipeline")
    stages.enter(REST)
    for name, stage in (("load_specs", SPECS), ("_run_other_targets", EVIDENCE), ("write", REPORTS)):
        setattr(pipeline, name, stages.during(stage, getattr(pipeline, name)))
    LocalEngine.run = stages.of_checks(LocalEngine.run)  # type: ignore[method-assign,assignment]
    try:
        harness(arguments)
    finally:
        stages.enter(REST)
        measured = {"seconds": stages.seconds, "peak_mb": _peak_mb()}
        figures.write_text(json.dumps(measured), encoding="utf-8")


def _peak_mb() -> float:
    """Peak memory of this program only; that of a finished process would include the process it was forked from."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
