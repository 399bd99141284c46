"""What changed in latency from one report to another, by the rule of :mod:`harness.latency.change`.

The compared values are undisturbed times, the fastest samples of each process
(:func:`harness.latency.conditions.undisturbed_time`). Other work on the machine only ever adds time, and not always the
same, so that these values repeat from day to day several times better than medians do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from harness.latency.change import Side, Verdict, change
from harness.latency.conditions import Samples, counted_rounds, undisturbed_time
from harness.result import Result

Checks = Mapping[tuple[str, str], Result]
Figure = Mapping[str, Any]


LATENCY_ORDER = ("slower", "faster", "inconclusive", "not comparable", "no change")


@dataclass(frozen=True, slots=True)
class LatencyChange:
    """One figure: a check at one set of ``shapes``; ``ratio`` is new / old.

    ``before_us`` and ``after_us`` are the medians of the compared times, or of all times if nothing can be compared.
    ``low`` and ``high`` are the interval of the ratio; None if there is none. ``noise`` is that of the machine, as a
    ratio. ``more_rounds`` would probably settle an inconclusive comparison. ``why`` is any other reason why it is not
    settled.
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


# Figures measured under different values of these are not comparable.
CONDITIONS = (
    *("device", "precision", "tf32", "threads", "optimization", "iobinding", "cpus", "copies_inputs"),
    "concurrent_workers",
)


# The least number of figures of single processes whose calibration times show the noise of the machine.
_MIN_CALIBRATIONS = 20


def latency_changes(old: Checks, new: Checks, min_effect: float, *, calibrated: bool) -> Iterator[LatencyChange]:
    """Every figure that both reports have, in the order of ``new``.

    ``calibrated`` is False if the two sides ran different calibration loops, so that their times cannot be compared.
    """
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
        sides = _side(before, calibrated=calibrated), _side(after, calibrated=calibrated)
        compared = change(
            *sides, min_effect=min_effect, noise=noise if _is_single(after) else None, comparisons=comparable
        )
        verdict, why = compared.verdict, compared.why
        # A median has low confidence because of the machine, which normalised times have allowed for.
        low_confidence = "" if compared.normalised else _low_confidence(before) or _low_confidence(after)
        if verdict in {"slower", "faster"} and low_confidence:
            verdict, why = "inconclusive", low_confidence
        interval = compared.low, compared.high, compared.noise
        us = compared.old_us, compared.new_us
        yield LatencyChange(case, target, shapes, *us, verdict, compared.ratio, *interval, compared.more_rounds, why)


def _pairs(old: Result, new: Result) -> Iterator[tuple[str, Figure, Figure]]:
    before, after = _figures(old), _figures(new)
    yield from ((shapes, before[shapes], figure) for shapes, figure in after.items() if shapes in before)


def _figures(result: Result) -> dict[str, Figure]:
    """The figures of a check by shapes: first the one at its own shapes, then those at its ``bench`` shapes."""
    first = result.latency
    if first is None or not _has_samples(first):
        return {}
    further = [figure for figure in first.get("by_shape", ()) if _has_samples(figure)]
    shared = {key: value for key, value in first.items() if key in CONDITIONS}
    return {str(figure.get("shapes", "")): {**shared, **figure} for figure in (first, *further)}


def _has_samples(figure: Figure) -> bool:
    """Whether it has its raw samples, with the calibration time of each."""
    calibrations = figure.get("calibration_us") or ()
    return figure.get("samples_us") is not None and any(isinstance(one, list) for one in calibrations)


def _obstacle(old: Figure, new: Figure, noise: float | None) -> str:
    """Why the two cannot be compared at all; empty if they can."""
    changed = [key for key in CONDITIONS if old.get(key) != new.get(key)]
    if changed:
        return "; ".join(f"{key} was {old.get(key)} and is {new.get(key)}" for key in changed)
    if _is_single(old) != _is_single(new):
        return "one side was measured in one process only; measure both with harness bench"
    if _is_single(new) and noise is None:
        return "measured in one process each, with too few figures to know the noise; measure both with harness bench"
    return ""


def _is_single(figure: Figure) -> bool:
    return len(figure["samples_us"]) == 1


def _low_confidence(figure: Figure) -> str:
    return ("; ".join(figure.get("notes", ())) or "low confidence") if figure.get("low_confidence") else ""


def _noise_of_single_processes(figures: Sequence[Figure]) -> float | None:
    """How far processes that run the same differ: the slowest calibration time / the median one, minus 1."""
    times = [
        median(figure["calibration_us"][0]) for figure in figures if _is_single(figure) and figure["calibration_us"][0]
    ]
    return max(times) / median(times) - 1 if len(times) >= _MIN_CALIBRATIONS else None


def _side(figure: Figure, *, calibrated: bool) -> Side:
    """A value per process, or per undisturbed round if there is one process."""
    processes = _processes(figure)
    calibrated = calibrated and all(one.calibration_us for one in processes)
    if len(processes) == 1:
        (one,), (rounds,) = processes, counted_rounds(processes)
        rounds = rounds or tuple(range(len(one.samples_us)))
        return Side(
            values_us=[one.samples_us[at] for at in rounds],
            calibration_us=[one.calibration_us[at] for at in rounds] if calibrated else None,
        )
    return Side(
        values_us=[undisturbed_time(one.samples_us) for one in processes],
        calibration_us=[undisturbed_time(one.calibration_us) for one in processes] if calibrated else None,
        rounds=round(median(len(one.samples_us) for one in processes)),
    )


def _processes(figure: Figure) -> list[Samples]:
    each = zip(figure["samples_us"], map(frozenset, figure["interrupted"]), figure["calibration_us"], strict=True)
    return [Samples(*one) for one in each]
