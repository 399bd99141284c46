"""Latencies as the page holds them: without raw samples and without names, because ten thousand of them are many.

- :func:`latency_fields`: the figures of one check by name, those of other shapes and variants packed.
- :func:`packed_figure`: the values of a figure in the order of :data:`FIGURE` or :data:`TIMED`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.report.diff.latency import CONDITIONS

FIGURE = (
    *("median_us", "low_us", "high_us", "p90_us", "p99_us", "eager_us", "ratio", "ratio_low", "ratio_high"),
    *("low_confidence", "notes", "samples", "processes", "batch", "shapes", "elements"),
)
"""The names of the values of a packed figure."""

TIMED = (*FIGURE, "first_call_us", "load_s", "first_run_s", "conditions", "by_shape", "beside")
"""The names of the values of a packed latency."""

_DIGITS = 5


def latency_fields(latency: Mapping[str, Any] | None) -> list[Any] | None:
    """The figures of :class:`harness.latency.figure.Latency` and ``harness bench``, packed; None if nothing was timed.

    ``conditions`` has names. ``by_shape`` is a list of packed figures, ``beside`` has one by name.
    """
    if latency is None or "median_us" not in latency:
        return None
    conditions = {key: latency[key] for key in (*CONDITIONS, "version") if latency.get(key) is not None}
    by_shape = [packed_figure(figure) for figure in latency.get("by_shape", ()) if "median_us" in figure]
    parts = {"conditions": conditions, "by_shape": by_shape, "beside": dict(_further_figures(latency))}
    return packed_figure({**latency, **parts}, TIMED)


def packed_figure(figure: Mapping[str, Any], names: tuple[str, ...] = FIGURE) -> list[Any]:
    """The values of ``figure`` in the order of ``names``, without what is missing at the end, with five digits."""
    values = [_short(figure.get(name)) for name in names]
    while values and values[-1] is None:
        values.pop()
    return values


def _short(value: Any) -> Any:
    """``value``, rounded; None for False and what is empty."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    return None if value is False or value in ([], {}, ()) else value


def _further_figures(latency: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Further figures of the same call, by name: variants, the transfer alone, the device's own clock."""
    for name, figure in latency.get("variants", {}).items():
        yield name, packed_figure(figure)
    for key, name in (("transfer", "transfer alone"), ("by_device", "by the device's clock")):
        if key in latency:
            yield name, packed_figure(latency[key])
