"""Where the time goes: the times of nodes and layers in the latency of a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.engine.bench.process import ProcessMeasurement, ProcessOutcome, trace_name
from harness.latency.figure import EAGER, rounded
from harness.latency.statistics import summarise
from harness.result import Result
from harness.runtimes import NodeTimes


def with_node_times(row: Result, outcome: ProcessOutcome | None, traces: Path) -> Result:
    """``row`` with the times of its nodes under ``latency``, or with a note that says why there are none."""
    if outcome is None or row.latency is None or "median_us" not in row.latency:
        return row
    if isinstance(outcome, str) or row.target in outcome.errors:
        reason = outcome if isinstance(outcome, str) else outcome.errors[row.target]
        return replace(row, notes=(*row.notes, f"nodes not timed: {reason}"))
    return replace(row, latency={**row.latency, "nodes": _figure(row, outcome, traces)})


def _figure(row: Result, outcome: ProcessMeasurement, traces: Path) -> dict[str, Any]:
    rows, layers = outcome.nodes[row.target], outcome.nodes.get(EAGER, ())
    return {
        "runs": len(rows[0].us) if rows else 0,
        "sum_us": _median_sum(rows),
        "trace": (traces / trace_name(row.case, row.target)).relative_to(traces.parent).as_posix(),
        "rows": [_row(each) for each in rows],
        "eager_sum_us": _median_sum(layers) if layers else None,
        "eager_rows": [_row(each) for each in layers],
    }


def _median_sum(rows: Sequence[NodeTimes]) -> float:
    """The median over the runs of the sum of all nodes."""
    sums = [sum(run) for run in zip(*(each.us for each in rows), strict=True)]
    median: float = rounded(summarise(sums).median) if sums else 0.0
    return median


def _row(times: NodeTimes) -> dict[str, Any]:
    summary = summarise(times.us)
    return {
        "node": times.node,
        "operator": times.operator,
        "provider": times.provider,
        "module": times.module,
        "us": rounded(summary.median),
        "low_us": rounded(summary.low),
        "high_us": rounded(summary.high),
    }
