"""How long each node of a model takes, from a trace in Chrome's format: ONNX Runtime's profile, or torch's profiler.

A trace holds events with a begin and a duration in microseconds. :func:`node_times` takes the outermost events of each
run, so that the nodes in a branch or a loop count once, in the node that holds them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.runtimes import NodeTimes


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a trace: what ran, and from when to when in microseconds."""

    node: NodeTimes
    begin: float
    end: float


def read_trace(path: Path) -> list[dict[str, Any]]:
    """The complete events of the trace at ``path``, in its order."""
    content = json.loads(path.read_bytes())
    events = content["traceEvents"] if isinstance(content, dict) else content
    return [event for event in events if "ts" in event and "dur" in event]


def span_of(event: dict[str, Any]) -> tuple[float, float]:
    """Begin and end of an event in microseconds."""
    begin = float(event["ts"])
    return begin, begin + float(event["dur"])


def node_times(events: Iterable[Event], runs: Sequence[tuple[float, float]]) -> tuple[NodeTimes, ...]:
    """The nodes in the order of execution, with their time in each of ``runs``.

    Where the runs executed different nodes, as branches and loops may, times are summed by name.
    """
    ordered = sorted(events, key=lambda event: (event.begin, -event.end))
    by_run = [_outermost([each for each in ordered if begin <= each.begin and each.end <= end]) for begin, end in runs]
    if not by_run:
        return ()
    named = [[(event.node.node, event.node.operator) for event in run] for run in by_run]
    if all(names == named[0] for names in named):
        return tuple(
            replace(first.node, us=tuple(run[position].end - run[position].begin for run in by_run))
            for position, first in enumerate(by_run[0])
        )
    nodes: dict[tuple[str, str], NodeTimes] = {}
    totals: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * len(by_run))
    for number, run in enumerate(by_run):
        for event in run:
            key = event.node.node, event.node.operator
            nodes.setdefault(key, event.node)
            totals[key][number] += event.end - event.begin
    return tuple(replace(node, us=tuple(totals[key])) for key, node in nodes.items())


def _outermost(events: Sequence[Event]) -> list[Event]:
    kept: list[Event] = []
    for event in events:
        if not kept or event.begin >= kept[-1].end:
            kept.append(event)
    return kept
