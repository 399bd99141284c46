"""Do latency figures tell the truth? Equals raise no alarm, a planted slowdown is found, other tools agree.

    python -m benchmarks.latency_truth [--equals 100] [--planted 30] [--kept DIR] [--report reports/latency-truth.md]

A model of 1 ms is timed again and again by what ``harness bench`` times with, each time in fresh processes, now and
then with one layer more, which is 5% of the work. ``harness diff`` then holds each report of the plain model against
the next one, which must not be a regression, and the slowed one against the plain one before it, which must be one.
What was measured is kept in DIR: a run that was stopped goes on from there. The exit code is 1 where one of the three
promises is broken: false alarms in at most 1 of 100, the slowdown found in 9 of 10, figures within 5% of other tools.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from benchmarks.latency.beside import SECONDS, TURNS, Pair, pairs, planted
from benchmarks.latency.chain import LAYERS, PLANTED
from benchmarks.latency.taken import BENCH, TARGET, Series, read, take
from harness.environment import describe
from harness.latency.change import Side, change
from harness.report.diff import LatencyChange, diff
from harness.result import Report

FALSE_ALARMS, FOUND, AGREE = 0.01, 0.9, 0.05
VERDICTS = ("slower", "faster", "no change", "inconclusive")


def main() -> int:
    """Measure what is not there yet, and write the report; 1 where a promise is broken."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--equals", type=int, default=100, help="comparisons of the model with itself")
    asked.add_argument("--planted", type=int, default=30, help="comparisons with the slowed model")
    asked.add_argument("--kept", type=Path, help="a folder for what is measured; without it nothing is kept")
    asked.add_argument("--report", type=Path, default=Path("reports/latency-truth.md"))
    given = asked.parse_args()
    began = time.monotonic()
    with ExitStack() as opened:
        folder = given.kept or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="latency-")))
        for at, name in enumerate(take(folder, given.equals, given.planted), 1):
            print(f"{at}: {name}, {time.monotonic() - began:.0f} s", flush=True)
        series = read(folder)
    told = _Told(series, planted(), list(pairs()))
    given.report.parent.mkdir(parents=True, exist_ok=True)
    given.report.write_text("\n\n".join(told.blocks(time.monotonic() - began)) + "\n", encoding="utf-8")
    print(given.report.read_text(encoding="utf-8"))
    return int(not all(told.kept.values()))


class _Told:
    """What the reports, and the other tools, come to."""

    def __init__(self, series: Series, real: float, beside: Sequence[Pair]) -> None:
        self.series, self.real, self.beside = series, real, beside
        self.alike = [_changed(*two) for two in pairwise(series.plain)]
        self.worse = [_changed(series.plain[at], report) for at, report in series.slowed.items()]
        self.alarms, self.found = _slower(self.alike), _slower(self.worse)

    @property
    def _calm(self) -> float:
        figures = [_figure(report) for report in self.series.plain]
        return float(sum(figure["calm"] for figure in figures) / sum(figure["samples"] for figure in figures))

    @property
    def _loads(self) -> list[float]:
        return [report.run["load"] for report in (*self.series.plain, *self.series.slowed.values())]

    @property
    def kept(self) -> dict[str, bool]:
        """Each promise in words, and whether it was kept."""
        furthest = max(abs(pair.ratio - 1) for pair in self.beside)
        return {
            f"{self.alarms} false alarms of {len(self.alike)} comparisons of equals": (
                self.alarms <= FALSE_ALARMS * len(self.alike)
            ),
            f"{self.found} of {len(self.worse)} planted slowdowns found": self.found >= FOUND * len(self.worse),
            f"figures within {100 * furthest:.1f}% of other tools": furthest <= AGREE,
        }

    def blocks(self, seconds: float) -> Iterator[str]:
        """The report in Markdown."""
        yield "# Do latency figures tell the truth?"
        yield "Written by `python -m benchmarks.latency_truth`, which says at its head how it measures."
        yield "\n".join(f"- {'kept' if kept else 'BROKEN'}: {what}" for what, kept in self.kept.items())
        yield from self._equals_and_planted()
        yield from self._by_the_clock()
        yield from self._other_tools()
        yield from self._machine(seconds)

    def _equals_and_planted(self) -> Iterator[str]:
        rows = [
            [name, len(changes), *(Counter[str](one.verdict for one in changes)[verdict] for verdict in VERDICTS)]
            for name, changes in (("the model against itself", self.alike), ("against the slowed one", self.worse))
        ]
        yield "## Equals, and a planted slowdown"
        yield (
            f"{LAYERS} linear layers on {TARGET}, {_middle(self.series.plain, 'median_us'):,.0f} us, each report from "
            f"{BENCH.processes} processes in {BENCH.budget_s:g} s of measuring. Each report of the model is held "
            "against the next, and the slowed model against the plain one before it."
        )
        yield tabulate(rows, headers=["comparison", "of them", *VERDICTS], tablefmt="github")
        yield (
            f"{100 * self._calm:.0f}% of the samples were taken while the machine was calm, under a load of "
            f"{median(self._loads):.1f}. What was left open: {self._open()}."
        )
        low, middle, high = np.quantile([one.ratio for one in self.worse], (0.1, 0.5, 0.9))
        yield (
            f"One layer more is {100 * PLANTED:.0f}% more work; with both models in turns in one process it is "
            f"{100 * (self.real - 1):.1f}% more time. `diff` made it {100 * (middle - 1):.1f}% in the middle, "
            f"{100 * (low - 1):.1f}% to {100 * (high - 1):.1f}% in eight of ten."
        )

    def _open(self) -> str:
        """Why comparisons are inconclusive, in words without their figures."""
        why = [one.why.partition(" changed by")[0].partition(" is ")[0] for one in (*self.alike, *self.worse)]
        return ", ".join(f"{count} times {told}" for told, count in Counter(filter(None, why)).most_common()) or "none"

    def _by_the_clock(self) -> Iterator[str]:
        """What the same rule says of medians, and of the clock alone."""
        alarms = sum(_clock(*two) == "slower" for two in pairwise(self.series.plain))
        found = sum(_clock(self.series.plain[at], report) == "slower" for at, report in self.series.slowed.items())
        yield (
            "With the median of each process in place of its quickest samples, and without regard to the pace of the "
            f"machine, the same rule would have raised {alarms} false alarms and found {found}."
        )

    def _other_tools(self) -> Iterator[str]:
        yield "## Beside other tools"
        yield (
            f"Microseconds a call, in {TURNS} turns of {SECONDS:g} s in one process, in each of which both tools time "
            "the same object: the figure of each that one in ten of its turns is quicker than, since other work on the "
            "machine only ever adds."
        )
        yield tabulate(
            [[pair.model, pair.call, pair.tool, pair.theirs_us, pair.ours_us, pair.ratio] for pair in self.beside],
            headers=["model", "what", "the other tool", "its figure", "harness", "harness / other"],
            tablefmt="github",
            floatfmt=("", "", "", ".4g", ".4g", ".3f"),
        )

    def _machine(self, seconds: float) -> Iterator[str]:
        plain, environment = self.series.plain, describe()
        steps = [abs(after / before - 1) for before, after in pairwise(map(_by_clock, plain))]
        packages = environment["packages"]
        lines = (
            f"{environment['cpu']['model']}, {environment['cpu']['usable']} CPUs",
            f"load {median(self._loads):.1f} in the middle, {max(self._loads):.1f} at most",
            f"samples taken in calm: {100 * self._calm:.0f}%",
            f"A/A noise of a report: {100 * _middle(plain, 'noise'):.1f}% in the middle",
            f"by the clock, equals moved by {100 * median(steps):.1f}% in the middle, {100 * max(steps):.0f}% at most",
            f"torch {packages['torch']}, onnxruntime {packages['onnxruntime']}",
            f"the last part of it took {seconds / 60:.0f} minutes",
        )
        yield "## The machine meanwhile"
        yield "\n".join(f"- {line}" for line in lines)


def _changed(old: Report, new: Report) -> LatencyChange:
    (found,) = diff(old, new).latency or ()
    return found


def _slower(changes: Sequence[LatencyChange]) -> int:
    return sum(change.verdict == "slower" for change in changes)


def _clock(old: Report, new: Report) -> str:
    sides = [Side([median(group) for group in _figure(report)["samples_us"]]) for report in (old, new)]
    return change(*sides).verdict


def _by_clock(report: Report) -> float:
    return float(median(median(group) for group in _figure(report)["samples_us"]))


def _middle(reports: Sequence[Report], key: str) -> float:
    return float(median(_figure(report)[key] for report in reports))


def _figure(report: Report) -> dict[str, Any]:
    (result,) = report.results
    assert result.latency is not None
    return dict(result.latency)


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main())
