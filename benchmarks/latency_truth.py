"""Are latencies right? Equal models raise no false alarm, a planted slowdown is found, other tools agree.

    python -m benchmarks.latency_truth [--equals 100] [--planted 30] [--kept DIR] [--report reports/latency-truth.md]

A model of 1 ms is timed again and again as ``harness bench`` does, each time in fresh processes, and sometimes with one
more layer, which is 5% of the work. ``harness diff`` then compares each report of the plain model with the next one,
which must not be a regression, and the slowed one with the plain one before it, which must be one. The reports are kept
in DIR, from where a stopped run continues. The exit code is 1 where one of three promises is broken: false alarms in at
most 1 of 100, the slowdown found in 9 of 10, times within 5% of other tools.
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

from benchmarks.latency.beside import SECONDS, TURNS, Pair, pairs, planted_ratio
from benchmarks.latency.chain import LAYERS, PLANTED
from benchmarks.latency.taken import BENCH, TARGET, Series, make_reports, read
from harness.environment import describe
from harness.latency.change import Side, change
from harness.report.diff import diff
from harness.report.diff.latency import LatencyChange
from harness.result import Report

FALSE_ALARMS, FOUND, AGREE = 0.01, 0.9, 0.05
VERDICTS = ("slower", "faster", "no change", "inconclusive")


def main() -> int:
    """Measure what is missing, and write the report; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--equals", type=int, default=100, help="number of comparisons of the model with itself")
    parser.add_argument("--planted", type=int, default=30, help="number of comparisons with the slowed model")
    parser.add_argument("--kept", type=Path, help="a folder that keeps the reports; default: none is kept")
    parser.add_argument("--report", type=Path, default=Path("reports/latency-truth.md"))
    arguments = parser.parse_args()
    began = time.monotonic()
    with ExitStack() as opened:
        folder = arguments.kept or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="latency-")))
        for at, name in enumerate(make_reports(folder, arguments.equals, arguments.planted), 1):
            print(f"{at}: {name}, {time.monotonic() - began:.0f} s", flush=True)
        series = read(folder)
    summary = _Summary(series, planted_ratio(), list(pairs()))
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.write_text("\n\n".join(summary.blocks(time.monotonic() - began)) + "\n", encoding="utf-8")
    print(arguments.report.read_text(encoding="utf-8"))
    return int(not all(summary.promises.values()))


class _Summary:
    """The results of the comparisons, and of the other tools."""

    def __init__(self, series: Series, real_ratio: float, pairs: Sequence[Pair]) -> None:
        self.series, self.real_ratio, self.pairs = series, real_ratio, pairs
        self.equal = [_compare(*two) for two in pairwise(series.plain)]
        self.slowed = [_compare(series.plain[at], report) for at, report in series.slowed.items()]
        self.alarms, self.found = _slower(self.equal), _slower(self.slowed)

    @property
    def _undisturbed(self) -> float:
        figures = [_figure(report) for report in self.series.plain]
        return float(sum(figure["calm"] for figure in figures) / sum(figure["samples"] for figure in figures))

    @property
    def _loads(self) -> list[float]:
        return [report.run["load"] for report in (*self.series.plain, *self.series.slowed.values())]

    @property
    def promises(self) -> dict[str, bool]:
        """Each promise in words, and whether it was kept."""
        furthest = max(abs(pair.ratio - 1) for pair in self.pairs)
        return {
            f"{self.alarms} false alarms of {len(self.equal)} comparisons of equal models": (
                self.alarms <= FALSE_ALARMS * len(self.equal)
            ),
            f"{self.found} of {len(self.slowed)} planted slowdowns found": self.found >= FOUND * len(self.slowed),
            f"times within {100 * furthest:.1f}% of other tools": furthest <= AGREE,
        }

    def blocks(self, seconds: float) -> Iterator[str]:
        """The report in Markdown."""
        yield "# Are latencies right?"
        yield "Written by `python -m benchmarks.latency_truth`, which describes how it measures."
        yield "\n".join(f"- {'kept' if kept else 'BROKEN'}: {promise}" for promise, kept in self.promises.items())
        yield from self._equals_and_planted()
        yield from self._plain_medians()
        yield from self._other_tools()
        yield from self._machine(seconds)

    def _equals_and_planted(self) -> Iterator[str]:
        rows = [
            [name, len(changes), *(Counter[str](one.verdict for one in changes)[verdict] for verdict in VERDICTS)]
            for name, changes in (("the model with itself", self.equal), ("with the slowed one", self.slowed))
        ]
        yield "## Equal models, and a planted slowdown"
        yield (
            f"{LAYERS} linear layers on {TARGET}, {_median_of(self.series.plain, 'median_us'):,.0f} us, each report "
            f"from {BENCH.processes} processes in {BENCH.budget_s:g} s of measuring. Each report of the model is "
            "compared with the next, and the slowed model with the plain one before it."
        )
        yield tabulate(rows, headers=["comparison", "count", *VERDICTS], tablefmt="github")
        yield (
            f"{100 * self._undisturbed:.0f}% of the samples were undisturbed by other work, under a load of "
            f"{median(self._loads):.1f}. Inconclusive: {self._inconclusive()}."
        )
        low, middle, high = np.quantile([one.ratio for one in self.slowed], (0.1, 0.5, 0.9))
        yield (
            f"One more layer is {100 * PLANTED:.0f}% more work; with both models in turns in one process it is "
            f"{100 * (self.real_ratio - 1):.1f}% more time. `diff` made it {100 * (middle - 1):.1f}% in the median, "
            f"{100 * (low - 1):.1f}% to {100 * (high - 1):.1f}% in 80% of the comparisons."
        )

    def _inconclusive(self) -> str:
        """Why comparisons are inconclusive, without the numbers."""
        why = [one.why.partition(" changed by")[0].partition(" is ")[0] for one in (*self.equal, *self.slowed)]
        counts = Counter(filter(None, why)).most_common()
        return ", ".join(f"{count} times {reason}" for reason, count in counts) or "none"

    def _plain_medians(self) -> Iterator[str]:
        """The same rule on plain medians, without the calibration loop."""
        alarms = sum(_verdict_of_medians(*two) == "slower" for two in pairwise(self.series.plain))
        found = sum(
            _verdict_of_medians(self.series.plain[at], report) == "slower" for at, report in self.series.slowed.items()
        )
        yield (
            "With the median of each process in place of its fastest samples, and without the calibration loop, "
            f"the same rule would have raised {alarms} false alarms and found {found}."
        )

    def _other_tools(self) -> Iterator[str]:
        yield "## Other tools"
        yield (
            f"Microseconds per call, in {TURNS} turns of {SECONDS:g} s in one process. In each turn both tools time "
            "the same object. Each time is the 10% quantile of the turns: other work on the machine only adds time."
        )
        yield tabulate(
            [[pair.model, pair.call, pair.tool, pair.theirs_us, pair.ours_us, pair.ratio] for pair in self.pairs],
            headers=["model", "call", "other tool", "its time", "harness", "harness / other"],
            tablefmt="github",
            floatfmt=("", "", "", ".4g", ".4g", ".3f"),
        )

    def _machine(self, seconds: float) -> Iterator[str]:
        plain, environment = self.series.plain, describe()
        steps = [abs(after / before - 1) for before, after in pairwise(map(_plain_median, plain))]
        packages = environment["packages"]
        lines = (
            f"{environment['cpu']['model']}, {environment['cpu']['usable']} CPUs",
            f"load {median(self._loads):.1f} in the median, {max(self._loads):.1f} at most",
            f"undisturbed samples: {100 * self._undisturbed:.0f}%",
            f"A/A noise of a report: {100 * _median_of(plain, 'noise'):.1f}% in the median",
            f"plain medians of equals: {100 * median(steps):.1f}% apart in the median, {100 * max(steps):.0f}% at most",
            f"torch {packages['torch']}, onnxruntime {packages['onnxruntime']}",
            f"the last part took {seconds / 60:.0f} minutes",
        )
        yield "## The machine"
        yield "\n".join(f"- {line}" for line in lines)


def _compare(old: Report, new: Report) -> LatencyChange:
    (latency_change,) = diff(old, new).latency or ()
    return latency_change


def _slower(changes: Sequence[LatencyChange]) -> int:
    return sum(change.verdict == "slower" for change in changes)


def _verdict_of_medians(old: Report, new: Report) -> str:
    sides = [Side([median(group) for group in _figure(report)["samples_us"]]) for report in (old, new)]
    return change(*sides).verdict


def _plain_median(report: Report) -> float:
    return float(median(median(group) for group in _figure(report)["samples_us"]))


def _median_of(reports: Sequence[Report], key: str) -> float:
    return float(median(_figure(report)[key] for report in reports))


def _figure(report: Report) -> dict[str, Any]:
    (result,) = report.results
    assert result.latency is not None
    return dict(result.latency)


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main())
