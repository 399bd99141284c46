"""How long each kernel took, from a profile of onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.runtimes import NodeTimes
from harness.runtimes._profiles.node_times import Event, node_times, read_trace, span_of

PROFILE_WARMUP = 3
"""Runs before those that count."""
_KERNEL = "_kernel_time"
_RUN = "model_run"


def profiled_times(profile: Path, runs: int) -> tuple[NodeTimes, ...]:
    """The nodes of the graph after all optimization, with their times in the last ``runs`` runs."""
    events = read_trace(profile)
    spans = [span_of(event) for event in events if event["name"] == _RUN]
    return node_times(map(_event, filter(_is_kernel, events)), spans[-runs:])


def _is_kernel(event: dict[str, Any]) -> bool:
    return event.get("cat") == "Node" and str(event["name"]).endswith(_KERNEL)


def _event(event: dict[str, Any]) -> Event:
    facts = event["args"]
    name = str(event["name"]).removesuffix(_KERNEL)
    return Event(NodeTimes(name, facts["op_name"], facts["provider"]), *span_of(event))
