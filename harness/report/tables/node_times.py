"""Where the time goes: the tables of ``harness bench --layers``, and the lines for the terminal.

Reads ``nodes`` in the ``latency`` of a result, as :mod:`harness.engine.bench.node_times` writes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.report.tables import code, table
from harness.report.tables.latency import interval
from harness.result import Result

SHOWN = 10
"""Nodes in a table of report.md; report.json has all of them."""
SHOWN_ON_TERMINAL = 5
CHECKS_ON_TERMINAL = 3


def node_time_blocks(results: Sequence[Result]) -> Iterator[str]:
    """For each check whose nodes were timed: by operator, and the slowest nodes; nothing without such a check."""
    timed = [(result, nodes) for result in results if (nodes := _nodes(result))]
    if not timed:
        return
    yield "### Where the time goes"
    yield (
        "Measured in runs of their own, with the runtime's profiler on, which costs time. `eager` is the layer that a "
        "node belongs to, in eager torch. ONNX Runtime's profiler counts whole microseconds."
    )
    for result, nodes in timed:
        yield f"{code(result.case)} on {code(result.target)}: {share_of_call(result)}. Trace: {code(nodes['trace'])}."
        total = nodes["sum_us"] or 1.0
        eager = _by(nodes["eager_rows"], "module")
        by_operator = sorted(_by(nodes["rows"], "operator").items(), key=lambda item: -item[1][1])
        yield table(
            ["operator", "nodes", "us", "share"],
            [[code(name), f"{count}", f"{us:.4g}", _percent(us / total)] for name, (count, us) in by_operator[:SHOWN]],
        )
        yield table(
            ["node", "operator", "layer", "provider", "us", "interval", "share", "eager us"],
            [
                [
                    code(row["node"]), code(row["operator"]), code(row["module"]) if row["module"] else "-",
                    code(row["provider"]), f"{row['us']:.4g}", interval(row["low_us"], row["high_us"]),
                    _percent(row["us"] / total), f"{eager[row['module']][1]:.4g}" if row["module"] in eager else "-",
                ]
                for row in slowest(nodes["rows"])[:SHOWN]
            ],
        )  # fmt: skip


def node_time_lines(results: Sequence[Result]) -> Iterator[str]:
    """The same for the terminal: a sentence for each check and its slowest nodes, for the first checks."""
    timed = [(result, nodes) for result in results if (nodes := _nodes(result))]
    for result, nodes in timed[:CHECKS_ON_TERMINAL]:
        yield f"Where the time goes in {result.case} on {result.target}: {share_of_call(result)}"
        for row in slowest(nodes["rows"])[:SHOWN_ON_TERMINAL]:
            layer = f", layer {row['module']}" if row["module"] else ""
            share = _percent(row["us"] / (nodes["sum_us"] or 1.0))
            yield f"  {row['us']:9.4g} us  {share:>5}  {row['operator']} {row['node']}{layer}"
    if len(timed) > CHECKS_ON_TERMINAL:
        yield f"... and {len(timed) - CHECKS_ON_TERMINAL:,} more checks"


def share_of_call(result: Result) -> str:
    """How much of a call the nodes explain."""
    figure = result.latency or {}
    nodes, whole = figure["nodes"], figure["median_us"]
    share = nodes["sum_us"] / whole if whole else 0.0
    return f"{len(nodes['rows'])} nodes take {nodes['sum_us']:.4g} us, {_percent(share)} of a call of {whole:.4g} us"


def slowest(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows, the longest time first."""
    return sorted(rows, key=lambda row: -row["us"])


def _nodes(result: Result) -> Mapping[str, Any] | None:
    nodes: Mapping[str, Any] | None = (result.latency or {}).get("nodes")
    return nodes if nodes and nodes["rows"] else None


def _by(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, tuple[int, float]]:
    """Number and microseconds of the rows, by their ``key``."""
    totals: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    for row in rows:
        count, us = totals[row[key]]
        totals[row[key]] = count + 1, us + row["us"]
    return dict(totals)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
