"""What changed in latency, by the rule of :mod:`harness.latency.change`, where both sides were measured alike.

What is held against each other is what a call takes while nothing disturbs it: the quickest samples of each process
(:func:`harness.latency.calm.quickest`). Other work on the machine only ever adds, now more and now less, so that those
repeat from day to day several times better than medians do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from harness.latency.calm import Samples, counting, quickest
from harness.latency.change import Side, Verdict, change
from harness.result import Result

Checks = Mapping[tuple[str, str], Result]
Figure = Mapping[str, Any]

# Figures that were measured under other values of these are figures of something else.
CONDITIONS = (
    *("device", "precision", "tf32", "threads", "optimization", "iobinding", "cpus", "copies_inputs"),
    "concurrent_workers",
)
# So many paces, at least, tell how much the figures of one process each are apart on the same machine.
_PACES = 20


@dataclass(frozen=True, slots=True)
class LatencyChange:
    """One figure: a check at one set of ``shapes``; ``ratio`` is how many times as long it takes now.

    ``before_us`` and ``after_us`` are the middle of what is compared, the medians where nothing can be.
    ``low`` and ``high`` enclose the ratio; they are None where nothing can be told. ``noise`` is the machine's own, as
    a ratio. ``more_rounds`` would probably settle an inconclusive comparison. ``why`` says what else stands in the way.
    """

    case: str
    target: str
    shapes: str
    before_us: float
    after_us: float
    verdict: Verdict | Literal["not comparable"]
    ratio: float
    low: float | None = None
    high: float | None = None
    noise: float | None = None
    more_rounds: int | None = None
    why: str = ""


def latency_changes(old: Checks, new: Checks, min_effect: float, *, paced: bool) -> Iterator[LatencyChange]:
    """Every figure that both have, in the order of ``new``. ``paced`` is False where the two paces differ by nature."""
    pairs = [
        (check, shapes, before, after)
        for check, result in new.items()
        if check in old
        for shapes, before, after in _pairs(old[check], result)
    ]
    noise = _noise_of_single_processes([figure for *_, before, after in pairs for figure in (before, after)])
    comparable = sum(not _obstacle(before, after, noise) for *_, before, after in pairs)
    for (case, target), shapes, before, after in pairs:
        us = before["median_us"], after["median_us"]
        if obstacle := _obstacle(before, after, noise):
            yield LatencyChange(case, target, shapes, *us, "not comparable", us[1] / us[0], why=obstacle)
            continue
        sides = _side(before, paced=paced), _side(after, paced=paced)
        found = change(
            *sides, min_effect=min_effect, noise=noise if _is_single(after) else None, comparisons=comparable
        )
        verdict, why = found.verdict, found.why
        # What makes a median doubtful is the machine, which comparisons at its best pace have allowed for.
        doubt = "" if found.at_best_pace else _doubt(before) or _doubt(after)
        if verdict in {"slower", "faster"} and doubt:
            verdict, why = "inconclusive", doubt
        us = found.old_us, found.new_us
        yield LatencyChange(
            case, target, shapes, *us, verdict, found.ratio, found.low, found.high, found.noise, found.more_rounds, why
        )


def _pairs(old: Result, new: Result) -> Iterator[tuple[str, Figure, Figure]]:
    before, after = _figures(old), _figures(new)
    yield from ((shapes, before[shapes], figure) for shapes, figure in after.items() if shapes in before)


def _figures(result: Result) -> dict[str, Figure]:
    """A check's figures by shapes: its own, which stand first, and those at its ``bench`` shapes."""
    own = result.latency
    if own is None or not _has_samples(own):
        return {}
    further = [figure for figure in own.get("by_shape", ()) if _has_samples(figure)]
    shared = {key: value for key, value in own.items() if key in CONDITIONS}
    return {str(figure.get("shapes", "")): {**shared, **figure} for figure in (own, *further)}


def _has_samples(figure: Figure) -> bool:
    """Whether it tells its raw samples, with all that was measured beside each."""
    return figure.get("samples_us") is not None and any(isinstance(own, list) for own in figure.get("pace_us") or ())


def _obstacle(old: Figure, new: Figure, noise: float | None) -> str:
    """Why the two cannot be compared at all; empty where they can."""
    other = [key for key in CONDITIONS if old.get(key) != new.get(key)]
    if other:
        return "; ".join(f"{key} was {old.get(key)} and is {new.get(key)}" for key in other)
    if _is_single(old) != _is_single(new):
        return "one side was measured in one process only; measure both with harness bench"
    if _is_single(new) and noise is None:
        return "measured in one process each, and too little of it to know the noise; measure both with harness bench"
    return ""


def _is_single(figure: Figure) -> bool:
    return len(figure["samples_us"]) == 1


def _doubt(figure: Figure) -> str:
    return "" if figure.get("quotable", True) else "; ".join(figure.get("notes", ())) or "not worth quoting"


def _noise_of_single_processes(figures: Sequence[Figure]) -> float | None:
    """How far apart processes are that do the same: the pace of each, the slowest against the middle."""
    paces = [median(figure["pace_us"][0]) for figure in figures if _is_single(figure) and figure["pace_us"][0]]
    return max(paces) / median(paces) - 1 if len(paces) >= _PACES else None


def _side(figure: Figure, *, paced: bool) -> Side:
    """A value for each process, or for each calm round where there is one process."""
    processes = _processes(figure)
    paced = paced and all(one.pace_us for one in processes)
    if len(processes) == 1:
        (one,), (rounds,) = processes, counting(processes)
        rounds = rounds or tuple(range(len(one.samples_us)))
        return Side(
            values_us=[one.samples_us[at] for at in rounds],
            pace_us=[one.pace_us[at] for at in rounds] if paced else None,
        )
    return Side(
        values_us=[quickest(one.samples_us) for one in processes],
        pace_us=[quickest(one.pace_us) for one in processes] if paced else None,
        rounds=round(median(len(one.samples_us) for one in processes)),
    )


def _processes(figure: Figure) -> list[Samples]:
    each = zip(figure["samples_us"], map(frozenset, figure["interrupted"]), figure["pace_us"], strict=True)
    return [Samples(*one) for one in each]
