"""Latency as Markdown tables: each target compared with eager torch, each case, and the thorough figures of a bench.

:func:`latency_lines` is the short form for the terminal: each check, or each target where there are many checks.

:func:`model_time_blocks` says how often a model calls each of its layers, times how long a call takes, beside the time
of the whole model: the cases of one spec that have a ``count`` are its layers; a case without one is the model itself.
``harness scan`` writes such specs.

Reads the ``latency`` of a result as :class:`harness.latency.figure.Latency` and ``harness bench`` write it. A figure
with ``low_confidence`` is marked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

from harness.report.tables import code, plain, table, targets
from harness.report.wording import CaseName, format_microseconds, format_number
from harness.result import Result

Figure = Mapping[str, Any]

_LOW_CONFIDENCE = "?"
_NOT_TIMED = "-"
_CONDITIONS = ("device", "precision", "threads", "cpus", "optimization", "version", "concurrent_workers")


def latency_blocks(results: Sequence[Result]) -> Iterator[str]:
    """The tables of all timed checks; nothing if no check was timed. Only checks that passed are timed."""
    timed = [result for result in results if result.latency is not None and "median_us" in result.latency]
    if not timed:
        return
    yield "## Latency"
    yield (
        "Median latency in microseconds, and its ratio to eager torch on the same inputs in the same rounds "
        f"(below 1x is faster than eager). {_LOW_CONFIDENCE} means low confidence; `report.json` says why."
    )
    yield _by_target(timed)
    yield from _by_case(timed)
    yield from _thorough_blocks(timed)
    yield from model_time_blocks(timed)


def _by_target(timed: Sequence[Result]) -> str:
    """One row per target: its ratios to eager over all cases, and the conditions of the measurement."""
    rows = []
    for target in targets(timed):
        figures = [_figure(result) for result in timed if result.target == target]
        ratios = [figure["ratio"] for figure in figures if figure.get("ratio")]
        unsure = sum(bool(figure.get("low_confidence")) for figure in figures)
        rows.append(
            [
                code(target),
                f"{len(figures):,}",
                f"{unsure:,}",
                *((_times(geometric_mean(ratios)), _times(min(ratios)), _times(max(ratios))) if ratios else ["-"] * 3),
                plain("; ".join(dict.fromkeys(map(_conditions, figures)))) or "-",
            ]
        )
    headers = ["target", "timed", "low confidence", "geometric mean", "fastest", "slowest", "measured under"]
    return table(headers, rows)


def _conditions(figure: Figure) -> str:
    return ", ".join(f"{key} {figure[key]}" for key in _CONDITIONS if figure.get(key) is not None)


def _by_case(timed: Sequence[Result]) -> Iterator[str]:
    """One table per spec file: cases by targets."""
    columns = targets(timed)
    by_spec: dict[str, dict[str, dict[str, Result]]] = {}
    for result in timed:
        group = by_spec.setdefault(CaseName.parse(result.case).spec, {})
        group.setdefault(result.case, {})[result.target] = result
    for spec, cases in by_spec.items():
        yield f"### Latency of {code(spec) if spec else 'cases'}"
        yield table(
            ["case", *map(code, columns)],
            [
                [code(CaseName.parse(case).short), *(_cell(row.get(target)) for target in columns)]
                for case, row in cases.items()
            ],
        )


def _cell(result: Result | None) -> str:
    if result is None:
        return _NOT_TIMED
    figure = _figure(result)
    ratio = f" ({_times(figure['ratio'])})" if figure.get("ratio") else ""
    return f"{figure['median_us']:.3g}{ratio}" + (f" {_LOW_CONFIDENCE}" if figure.get("low_confidence") else "")


def _figure(result: Result) -> Figure:
    assert result.latency is not None
    return result.latency


def _times(ratio: float) -> str:
    return f"{ratio:.2g}x" if ratio < 10 else f"{ratio:.0f}x"


def _thorough_blocks(timed: Sequence[Result]) -> Iterator[str]:
    """The figures of ``harness bench`` with interval and percentiles; nothing without figures of several processes."""
    thorough = [result for result in timed if (result.latency or {}).get("processes", 1) > 1]
    if not thorough:
        return
    yield "### Thorough figures"
    yield (
        "Median of the processes' medians in microseconds with its 95 % interval. `noise` is the difference between "
        "the slow and the fast half of the processes, which all did the same work. Load and first run are separate."
    )
    yield table(
        [
            "case", "target", "at", "median", "interval", "p90", "p99", "x eager", "its interval", "noise",
            "variants", "first call us", "load ms", "first run ms", "notes",
        ],
        [
            _row(result, figure)
            for result in thorough
            for figure in (result.latency, *_bench_figures(result))
            if figure is not None
        ],
    )  # fmt: skip
    yield from _growth(thorough)


def _bench_figures(result: Result) -> Sequence[Figure]:
    """The figures at the ``bench`` shapes, without the first, which is that of the check itself."""
    figures: Sequence[Figure] = (result.latency or {}).get("by_shape", ())
    return figures[1:]


def _row(result: Result, figure: Figure) -> list[str]:
    return [
        code(result.case),
        code(result.target),
        code(str(figure.get("shapes", ""))),
        _us(figure, "median_us"),
        interval(figure.get("low_us"), figure.get("high_us")),
        _us(figure, "p90_us"),
        _us(figure, "p99_us"),
        _us(figure, "ratio"),
        interval(figure.get("ratio_low"), figure.get("ratio_high")),
        "-" if figure.get("noise") is None else f"{100 * figure['noise']:.1f} %",
        plain(", ".join(_variants(figure))) or "-",
        _us(figure, "first_call_us"),
        _ms(figure, "load_s"),
        _ms(figure, "first_run_s"),
        plain("; ".join(figure.get("notes", ()))) or "-",
    ]


def _variants(figure: Figure) -> Iterator[str]:
    """The same call without or with IOBinding, by the device's clock, and the transfer of the data alone."""
    for name, variant in figure.get("variants", {}).items():
        yield f"{name} {_us(variant, 'median_us')}"
    for key, name in (("by_device", "by the device's clock"), ("transfer", "transfers alone")):
        if key in figure:
            yield f"{name} {_us(figure[key], 'median_us')}"


def _growth(thorough: Sequence[Result]) -> Iterator[str]:
    """One table per case with ``bench`` shapes: its shapes, from the smallest, by its targets."""
    cases: dict[str, dict[str, Result]] = {}
    for result in thorough:
        if _bench_figures(result):
            cases.setdefault(result.case, {})[result.target] = result
    if not cases:
        return
    yield "### Latency by input size"
    yield "Microseconds, and in parentheses nanoseconds per element of the inputs."
    for case, row in cases.items():
        columns = targets(list(row.values()))
        by_shape: dict[str, dict[str, Figure]] = {}
        for target, result in row.items():
            for figure in (result.latency or {})["by_shape"]:
                by_shape.setdefault(figure["shapes"], {})[target] = figure
        order = sorted(by_shape, key=lambda shapes: next(iter(by_shape[shapes].values())).get("elements", 0))
        rows = [[code(shapes), *(_per_element(by_shape[shapes].get(target)) for target in columns)] for shapes in order]
        yield table([plain(case), *map(code, columns)], rows)


def _per_element(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    each = f" ({1e3 * figure['median_us'] / figure['elements']:.3g})" if figure.get("elements") else ""
    return f"{_us(figure, 'median_us')}{each}"


def _us(figure: Figure, key: str) -> str:
    value = figure.get(key)
    unsure = key == "median_us" and figure.get("low_confidence")
    return "-" if value is None else f"{value:.4g}" + (f" {_LOW_CONFIDENCE}" if unsure else "")


def _ms(figure: Figure, key: str) -> str:
    value = figure.get(key)
    return "-" if value is None else f"{1e3 * value:.3g}"


def interval(low: float | None, high: float | None) -> str:
    """Both bounds with four significant digits; ``-`` without one."""
    return "-" if low is None or high is None else f"{low:.4g} to {high:.4g}"


SHOWN = 12
"""Up to so many timed checks have a line each."""


def latency_lines(results: Sequence[Result]) -> Iterator[str]:
    """The lines; none if nothing was timed."""
    timed = [result for result in results if result.latency and "median_us" in result.latency]
    if not timed:
        return
    if len(timed) <= SHOWN:
        yield "latency (median, 95 % interval, ratio to eager torch)"
        yield from map(_line, timed)
        return
    yield f"latency of {len(timed):,} checks, as a ratio to eager torch (geometric mean, lowest and highest)"
    for target in targets(timed):
        figures = [result.latency for result in timed if result.target == target and result.latency]
        ratios = [figure["ratio"] for figure in figures if figure.get("ratio")]
        if ratios:
            low, mean, high = min(ratios), geometric_mean(ratios), max(ratios)
            yield f"  {target}: {mean:.2g}x ({low:.2g}x to {high:.2g}x), {len(figures):,} checks"


def _line(result: Result) -> str:
    figure = result.latency or {}
    low, high, ratio = figure.get("low_us"), figure.get("high_us"), figure.get("ratio")
    around = "" if low is None or high is None else f" [{format_microseconds(low)}, {format_microseconds(high)}]"
    times = "" if ratio is None else f", {ratio:.2g}x"
    unsure = ", low confidence" if figure.get("low_confidence") else ""
    return f"  {result.case} on {result.target}: {format_microseconds(figure['median_us'])}{around}{times}{unsure}"


@dataclass(frozen=True, slots=True)
class LayerTime:
    """A case with its ``count``; ``us`` is count x median latency by target, in microseconds, where it was timed."""

    case: str
    count: int | None
    us: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ModelTime:
    """The layers of one spec, the slowest first, and the cases of whole models in it."""

    spec: str
    targets: Sequence[str]
    layers: Sequence[LayerTime]
    whole: Sequence[LayerTime]

    def rows(self) -> Iterator[tuple[str, str, list[str]]]:
        """A name, a count and a cell for each target: the layers, their sum, and the whole models."""
        sums = {target: sum(each.us.get(target, 0.0) for each in self.layers) for target in self.targets}
        for each in self.layers:
            cells = [_time_cell(each.us.get(target), sums[target]) for target in self.targets]
            yield CaseName.parse(each.case).short, f"{each.count:,}", cells
        yield "sum of the layers", "", [self._sum(target, sums[target]) for target in self.targets]
        for each in self.whole:
            cells = [format_number(each.us.get(target)) for target in self.targets]
            yield f"{CaseName.parse(each.case).short} (the model)", "", cells

    def _sum(self, target: str, us: float) -> str:
        missing = sum(target not in each.us for each in self.layers)
        return format_number(us) + (f", without {missing} not timed" if missing else "")


def model_times(results: Sequence[Result]) -> list[ModelTime]:
    """The specs in which at least one layer with a count was timed."""
    by_spec: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        by_spec.setdefault(CaseName.parse(result.case).spec, {}).setdefault(result.case, []).append(result)
    times = []
    for spec, cases in by_spec.items():
        timed = [each for group in cases.values() for each in group if each.count is not None and _median(each)]
        if not timed:
            continue
        rows = [_layer_time(group) for group in cases.values()]
        layers = sorted(
            (each for each in rows if each.count is not None), key=lambda each: -max(each.us.values(), default=0)
        )
        times.append(ModelTime(spec, targets(timed), layers, [each for each in rows if each.count is None and each.us]))
    return times


def model_time_blocks(results: Sequence[Result]) -> Iterator[str]:
    """The same as Markdown tables; nothing if no case has a count."""
    for each in model_times(results):
        yield f"### Layers of {code(each.spec)}: count x latency in microseconds, and the share of their sum"
        yield table(
            ["case", "count", *map(code, each.targets)],
            [[code(name), count or "-", *cells] for name, count, cells in each.rows()],
        )


def _layer_time(group: Sequence[Result]) -> LayerTime:
    count = group[0].count
    us = {each.target: median * (count or 1) for each in group if (median := _median(each))}
    return LayerTime(group[0].case, count, us)


def _median(result: Result) -> float | None:
    median = (result.latency or {}).get("median_us")
    return float(median) if median else None


def _time_cell(us: float | None, total: float) -> str:
    return "-" if us is None else f"{format_number(us)} ({us / total:.0%})"
