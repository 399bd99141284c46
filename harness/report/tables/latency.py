"""Latency as tables: each target against eager torch, each case's figures, and what they were measured under.

Reads the ``latency`` of a result as :class:`harness.latency.figure.Latency` writes it; where a figure
says of itself that it is not quotable, the table says so beside it.

Thorough figures as tables: each with its interval and its tail, and how latency grows with the shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import geometric_mean
from typing import Any

from harness.report.tables import code, plain, table, targets
from harness.report.wording import CaseName
from harness.result import Result

_HINT = "?"
_NOT_TIMED = "-"
_CONDITIONS = ("device", "precision", "threads", "cpus", "optimization", "version", "concurrent_workers")


def latency_blocks(results: Sequence[Result]) -> Iterator[str]:
    """Nothing where nothing was timed; only checks that passed are."""
    timed = [result for result in results if result.latency is not None and "median_us" in result.latency]
    if not timed:
        return
    yield "## Latency"
    yield (
        "Medians in microseconds, and how many times as long as eager torch on the same inputs took in the same rounds "
        f"(below 1x is quicker). {_HINT} marks a figure that is no more than a hint; `report.json` says why."
    )
    yield _by_target(timed)
    yield from _by_case(timed)
    yield from growth_blocks(timed)


def _by_target(timed: Sequence[Result]) -> str:
    """One row a target: how it stands to eager over all its cases, and what it was measured under."""
    rows = []
    for target in targets(timed):
        here = [_figures(result) for result in timed if result.target == target]
        ratios = [figures["ratio"] for figures in here if figures.get("ratio")]
        hints = sum(not figures.get("quotable", True) for figures in here)
        rows.append(
            [
                code(target),
                f"{len(here):,}",
                f"{hints:,}",
                *((_times(geometric_mean(ratios)), _times(min(ratios)), _times(max(ratios))) if ratios else ["-"] * 3),
                plain("; ".join(dict.fromkeys(map(_conditions, here)))) or "-",
            ]
        )
    headers = ["target", "timed", f"of them {_HINT}", "geometric mean", "quickest", "slowest", "measured under"]
    return table(headers, rows)


def _conditions(figures: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {figures[key]}" for key in _CONDITIONS if figures.get(key) is not None)


def _by_case(timed: Sequence[Result]) -> Iterator[str]:
    """One table a spec file: cases by targets."""
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
    figures = _figures(result)
    ratio = f" ({_times(figures['ratio'])})" if figures.get("ratio") else ""
    return f"{figures['median_us']:.3g}{ratio}" + ("" if figures.get("quotable", True) else f" {_HINT}")


def _figures(result: Result) -> Mapping[str, Any]:
    assert result.latency is not None
    return result.latency


def _times(ratio: float) -> str:
    return f"{ratio:.2g}x" if ratio < 10 else f"{ratio:.0f}x"


Figure = Mapping[str, Any]


def growth_blocks(timed: Sequence[Result]) -> Iterator[str]:
    """Nothing where nothing was timed thoroughly; ``timed`` are results with a latency."""
    thorough = [result for result in timed if (result.latency or {}).get("processes", 1) > 1]
    if not thorough:
        return
    yield "### Thorough figures"
    yield (
        "Medians of the processes' medians in microseconds with their 95% interval; `noise` is by how much the slow "
        "half of the processes is above the quick half, which ran the same. Loading and the first run stand apart."
    )
    yield table(
        [
            "case", "target", "at", "median", "interval", "p90", "p99", "x eager", "interval of it", "noise",
            "other ways", "first call us", "load ms", "first run ms", "worth knowing",
        ],
        [
            _row(result, figure)
            for result in thorough
            for figure in (result.latency, *_further(result))
            if figure is not None
        ],
    )  # fmt: skip
    yield from _growth(thorough)


def _further(result: Result) -> Sequence[Figure]:
    """The figures at ``bench`` shapes, without the first, which is the check's own."""
    figures: Sequence[Figure] = (result.latency or {}).get("by_shape", ())
    return figures[1:]


def _row(result: Result, figure: Figure) -> list[str]:
    return [
        code(result.case),
        code(result.target),
        code(str(figure.get("shapes", ""))),
        _us(figure, "median_us"),
        _between(figure.get("low_us"), figure.get("high_us")),
        _us(figure, "p90_us"),
        _us(figure, "p99_us"),
        _us(figure, "ratio"),
        _between(figure.get("ratio_low"), figure.get("ratio_high")),
        "-" if figure.get("noise") is None else f"{100 * figure['noise']:.1f}%",
        plain(", ".join(_other_ways(figure))) or "-",
        _us(figure, "first_call_us"),
        _ms(figure, "load_s"),
        _ms(figure, "first_run_s"),
        plain("; ".join(figure.get("notes", ()))) or "-",
    ]


def _other_ways(figure: Figure) -> Iterator[str]:
    """The same call without or with IOBinding, by the device's clock, and what only carries data."""
    for name, other in figure.get("variants", {}).items():
        yield f"{name} {_us(other, 'median_us')}"
    for key, name in (("by_device", "by the device's clock"), ("transfer", "transfers alone")):
        if key in figure:
            yield f"{name} {_us(figure[key], 'median_us')}"


def _growth(thorough: Sequence[Result]) -> Iterator[str]:
    """For each case with ``bench`` shapes: its shapes, from the smallest, by its targets."""
    cases: dict[str, dict[str, Result]] = {}
    for result in thorough:
        if _further(result):
            cases.setdefault(result.case, {})[result.target] = result
    if not cases:
        return
    yield "### How latency grows"
    yield "Microseconds, and in brackets nanoseconds for each element of the inputs."
    for case, row in cases.items():
        columns = targets(list(row.values()))
        by_shape: dict[str, dict[str, Figure]] = {}
        for target, result in row.items():
            for figure in (result.latency or {})["by_shape"]:
                by_shape.setdefault(figure["shapes"], {})[target] = figure
        order = sorted(by_shape, key=lambda shapes: next(iter(by_shape[shapes].values())).get("elements", 0))
        rows = [[code(shapes), *(_grown(by_shape[shapes].get(target)) for target in columns)] for shapes in order]
        yield table([plain(case), *map(code, columns)], rows)


def _grown(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    each = f" ({1e3 * figure['median_us'] / figure['elements']:.3g})" if figure.get("elements") else ""
    return f"{_us(figure, 'median_us')}{each}"


def _us(figure: Figure, key: str) -> str:
    value = figure.get(key)
    doubtful = key == "median_us" and not figure.get("quotable", True)
    return "-" if value is None else f"{value:.4g}" + (f" {_HINT}" if doubtful else "")


def _ms(figure: Figure, key: str) -> str:
    value = figure.get(key)
    return "-" if value is None else f"{1e3 * value:.3g}"


def _between(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.4g} to {high:.4g}"
