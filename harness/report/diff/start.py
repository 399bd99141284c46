"""What changed in the figures of ``harness bench`` besides a call's latency: load, first run, peak memory, and nodes.

The rule is that of :mod:`harness.latency.change`, on a value for each process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from harness.errors import UsageError
from harness.latency.change import Side, Verdict, change
from harness.report.diff.latency import CONDITIONS
from harness.result import Result

Checks = Mapping[tuple[str, str], Result]
StartFigure = Literal["load", "first", "memory"]
START_FIGURES: tuple[StartFigure, ...] = get_args(StartFigure)
"""What ``--gate`` takes."""
_KEYS: Mapping[StartFigure, str] = {"load": "load_s", "first": "first_run_s", "memory": "peak_mb"}
UNITS: Mapping[StartFigure, str] = {"load": "s", "first": "s", "memory": "MB"}


@dataclass(frozen=True, slots=True)
class StartChange:
    """``figure`` of a check: ``before`` and ``after`` are medians over the processes, ``ratio`` is new / old.

    ``slower`` means more memory too. ``low`` and ``high`` are the interval of the ratio; None if there is none.
    """

    case: str
    target: str
    figure: StartFigure
    before: float
    after: float
    verdict: Verdict
    ratio: float
    low: float | None
    high: float | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class NodeChange:
    """A node that both reports have, and whose intervals lie apart. Times are medians in microseconds."""

    case: str
    target: str
    node: str
    operator: str
    module: str
    before_us: float
    after_us: float

    @property
    def difference_us(self) -> float:
        """What the call takes longer because of this node."""
        return self.after_us - self.before_us


def gated_figures(words: Sequence[str]) -> tuple[StartFigure, ...]:
    """What ``--gate`` names. Raises :class:`UsageError` for any other word."""
    figures: dict[str, StartFigure] = {figure: figure for figure in START_FIGURES}
    if unknown := [word for word in words if word not in figures]:
        raise UsageError(f"--gate {unknown[0]}: no such figure; name any of {', '.join(figures)}")
    return tuple(figures[word] for word in words)


def start_changes(old: Checks, new: Checks, min_effect: float) -> Iterator[StartChange]:
    """Every figure that both reports have with a value per process, in the order of ``new``."""
    pairs = [
        (check, figure, before, after)
        for check, before_figure, after_figure in _timed_in_both(old, new)
        if all(before_figure.get(key) == after_figure.get(key) for key in CONDITIONS)
        for figure in START_FIGURES
        if (before := _values(before_figure, figure)) and (after := _values(after_figure, figure))
    ]
    for (case, target), figure, before, after in pairs:
        found = change(Side(before), Side(after), min_effect=min_effect, comparisons=len(pairs))
        values = found.old_us, found.new_us
        yield StartChange(case, target, figure, *values, found.verdict, found.ratio, found.low, found.high, found.why)


def _values(figure: Mapping[str, Any], name: StartFigure) -> Sequence[float]:
    """A value for each process, all above 0; none where a process needed no memory that could be seen."""
    samples: Sequence[float] = ((figure.get("start") or {}).get(_KEYS[name]) or {}).get("samples", ())
    return samples if all(value > 0 for value in samples) else ()


def node_changes(old: Checks, new: Checks, min_effect: float) -> list[NodeChange]:
    """The nodes that became slower or faster by more than ``min_effect``, the largest difference of time first.

    A node is the one with the same place among the nodes of its name. The profilers' times say nothing about a call
    without them, so these changes explain a change of the latency and are none themselves.
    """
    found = []
    for (case, target), before_figure, after_figure in _timed_in_both(old, new):
        before, after = (
            _by_place((figure.get("nodes") or {}).get("rows", ())) for figure in (before_figure, after_figure)
        )
        for place, row in after.items():
            earlier = before.get(place)
            if earlier is not None and _apart(earlier, row, min_effect):
                names = row["node"], row["operator"], row["module"]
                found.append(NodeChange(case, target, *names, earlier["us"], row["us"]))
    return sorted(found, key=lambda each: -abs(each.difference_us))


def _by_place(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, int], Mapping[str, Any]]:
    places: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        name = row["node"], row["operator"]
        counts[name] = counts.get(name, -1) + 1
        places[(*name, counts[name])] = row
    return places


def _apart(before: Mapping[str, Any], after: Mapping[str, Any], min_effect: float) -> bool:
    if None in (before["low_us"], after["low_us"]) or not before["us"]:
        return False
    disjoint = before["high_us"] < after["low_us"] or after["high_us"] < before["low_us"]
    return bool(disjoint) and abs(after["us"] / before["us"] - 1) > min_effect


def _timed_in_both(old: Checks, new: Checks) -> Iterator[tuple[tuple[str, str], Mapping[str, Any], Mapping[str, Any]]]:
    for check, result in new.items():
        before = old.get(check)
        if before is not None and before.latency and result.latency:
            yield check, before.latency, result.latency
