"""The latency of a check as the page shows it: its figures, without the raw samples, which ``report.json`` keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.diff_latency import CONDITIONS

_FIGURE = (
    *("median_us", "low_us", "high_us", "p90_us", "p99_us", "eager_us", "ratio", "ratio_low", "ratio_high"),
    *("quotable", "notes", "samples", "processes", "batch", "shapes", "elements"),
)
_FIRST = ("first_call_us", "load_s", "first_run_s")


def figures(latency: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What :class:`harness.latency.figure.Latency` and ``harness bench`` wrote; None where nothing was timed."""
    if latency is None or "median_us" not in latency:
        return None
    return {
        **_picked(latency, (*_FIGURE, *_FIRST)),
        "conditions": _picked(latency, (*CONDITIONS, "version")),
        "by_shape": [_picked(figure, _FIGURE) for figure in latency.get("by_shape", ()) if "median_us" in figure],
        "beside": dict(_beside(latency)),
    }


def _beside(latency: Mapping[str, Any]) -> Any:
    """Further figures of the same call, by name: variants, the transfer, the device's own clock."""
    for name, figure in latency.get("variants", {}).items():
        yield name, _picked(figure, _FIGURE)
    for key, name in (("transfer", "transfer alone"), ("by_device", "by the device's clock")):
        if key in latency:
            yield name, _picked(latency[key], _FIGURE)


def _picked(figure: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: figure[key] for key in keys if figure.get(key) is not None}
