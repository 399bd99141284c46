"""Latency as tables: each target against eager torch, each case's figures, and what they were measured under.

Reads the ``latency`` of a result as :class:`harness.latency.figure.Latency` writes it; where a figure
says of itself that it is not quotable, the table says so beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import geometric_mean
from typing import Any

from harness.report.case_name import CaseName
from harness.report.latency_growth import growth_blocks
from harness.report.markup import code, plain, table
from harness.report.matrix import targets
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
