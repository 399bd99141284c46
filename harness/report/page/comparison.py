"""What changed against another report, as the page shows it: what matters most first, and no more than can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

SHOWN = 1_000
"""So many changes of each kind are shown; all of them are counted."""

_PARITY = ("regressed", "mended", "otherwise", "unverified", "verified", "new", "gone", "numbers")
_LATENCY = ("slower", "faster", "inconclusive", "not comparable", "no change")


def comparison(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The part that the page shows of what :meth:`harness.report.diff.Diff.to_dict` wrote; None where there is none."""
    if told is None:
        return None
    return {
        **{key: told.get(key) for key in ("regressed", "versions", "hardware", "min_effect")},
        "parity": _first(told.get("parity") or (), "kind", _PARITY),
        "parity_counts": _counts(told.get("parity") or (), "kind", _PARITY),
        "latency": None if told.get("latency") is None else _first(told["latency"], "verdict", _LATENCY),
        "latency_counts": _counts(told.get("latency") or (), "verdict", _LATENCY),
    }


def _first(changes: Sequence[Mapping[str, Any]], key: str, order: Sequence[str]) -> list[Mapping[str, Any]]:
    return sorted(changes, key=lambda change: order.index(change[key]))[:SHOWN]


def _counts(changes: Sequence[Mapping[str, Any]], key: str, order: Sequence[str]) -> dict[str, int]:
    counts = Counter(change[key] for change in changes)
    return {name: counts[name] for name in order if counts[name]}
