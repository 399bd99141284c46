"""From what the processes measured to the ``latency`` of each result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from statistics import median
from typing import Any

from harness.bench.names import TRANSFER, series
from harness.bench.settings import BenchSettings
from harness.bench.shapes import bench_cases, shapes_of
from harness.bench.task import Taken
from harness.latency.figure import latency
from harness.latency.statistics import summarise
from harness.plan import Plan
from harness.result import Result
from harness.spec.case import Case

RAW = ("samples_us", "interrupted", "pace_us", "eager_samples_us")
Taking = Mapping[str, Sequence[Taken | str]]


def told(plan: Plan, rows: Sequence[Result], taken: Taking, bench: BenchSettings) -> list[Result]:
    """``rows`` with what was measured of them, or with a note that says why it was not."""
    cases = {case.id: case for case, _ in plan.work}
    return [_told(row, cases[row.case], taken, bench) for row in rows]


def _told(row: Result, case: Case, taken: Taking, bench: BenchSettings) -> Result:
    if case.id not in taken or row.status != "passed":
        return row
    own, trouble = _figure(case, row.target, taken)
    if own is None:
        return replace(row, notes=(*row.notes, f"not timed: {trouble}"))
    by_shape, notes = [], list(row.notes)
    for other in bench_cases(case):
        figure, trouble = _figure(other, row.target, taken)
        if figure is None:
            notes.append(f"not timed at {shapes_of(other)}: {trouble}")
        else:
            by_shape.append(figure)
    asked = {"budget_s": bench.budget_s, "rounds_asked": bench.rounds, "cpus": list(bench.cpus) or None}
    first = {key: value for key, value in own.items() if key not in RAW}
    whole = {**own, **({"by_shape": [first, *by_shape]} if by_shape else {}), **asked, "concurrent_workers": 1}
    return replace(row, latency=whole, notes=tuple(notes))


def _figure(case: Case, target: str, taken: Taking) -> tuple[dict[str, Any] | None, str]:
    """The figures of ``target`` on ``case`` at its shapes, or None and why there are none."""
    processes = [one for one in taken[case.id] if isinstance(one, Taken)]
    troubles = [one for one in taken[case.id] if isinstance(one, str)]
    troubles += [one.troubles[target] for one in processes if target in one.troubles]
    if troubles or not processes:
        return None, troubles[0] if troubles else "no process was started"
    loaded = [one.loaded[target] for one in processes]
    measurements = [one.measurement for one in processes]
    names = measurements[0].series
    variants = {
        name.removeprefix(f"{target} "): _short(latency(name, measurements).to_dict())
        for name in names
        if name.startswith(f"{target} ") and name != series(target, TRANSFER)
    }
    figure = {
        "shapes": shapes_of(case),
        "elements": sum(prod(spec.shape) for spec in case.inputs),
        **latency(target, measurements).to_dict(),
        "load_s": _four_digits(median(each.load_s for each in loaded)),
        "first_run_s": _four_digits(median(each.first_run_s for each in loaded)),
        **({"variants": variants} if variants else {}),
        **loaded[0].facts,
    }
    if series(target, TRANSFER) in names:
        figure["transfer"] = _short(latency(series(target, TRANSFER), measurements).to_dict())
    if all(each.device_us is not None for each in loaded):
        figure["by_device"] = _device([each.device_us or () for each in loaded])
    return figure, ""


def _short(figure: Mapping[str, Any]) -> dict[str, Any]:
    """What a figure beside the main one tells."""
    keys = ("median_us", "low_us", "high_us", "ratio", "quotable", "notes", "samples_us")
    return {key: figure[key] for key in keys}


def _device(processes: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The device's own clock: the processes' medians, and their interval."""
    summary = summarise([median(runs) for runs in processes])
    return {
        "median_us": summary.median,
        "low_us": summary.low,
        "high_us": summary.high,
        "samples_us": [list(runs) for runs in processes],
    }


def _four_digits(seconds: float) -> float:
    return float(f"{seconds:.4g}")
