"""What changed in parity: checks that ended otherwise than before, or further from what they should be.

What changed in latency, by the rule of :mod:`harness.latency.change`, where both sides were measured alike.

What is held against each other is what a call takes while nothing disturbs it: the quickest samples of each process
(:func:`harness.latency.conditions.quickest`). Other work on the machine only ever adds, now more and now less, so that those
repeat from day to day several times better than medians do.

What changed from one report to the next: in parity, and in latency where both were measured alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from harness.latency.change import Side, Verdict, change
from harness.latency.conditions import Samples, counting, quickest
from harness.report.wording import WRONG, explanation, numbers, outcome, telling
from harness.result import Report, Result, to_json

Kind = Literal["regressed", "mended", "otherwise", "numbers", "new", "gone", "unverified", "verified"]
Checks = Mapping[tuple[str, str], Result]


@dataclass(frozen=True, slots=True)
class ParityChange:
    """One check; ``before`` and ``after`` say what it came to, empty where it was not there.

    ``regressed``: it was as expected and is not any more, or is new and not as expected. ``mended``: the other way
    round. ``otherwise``: it ends in another status, stage or symptom, and neither is worse. ``numbers``: it ends as it
    did, at another distance. ``new``, ``gone``: only one report has it. ``unverified``, ``verified``: it is skipped
    now, or is not any more.
    """

    case: str
    target: str
    kind: Kind
    before: str
    after: str
    detail: str = ""

    @property
    def worse(self) -> bool:
        """True where this is a regression."""
        return self.kind == "regressed"


def parity_changes(old: Checks, new: Checks) -> Iterator[ParityChange]:
    """Every check that changed, in the order of ``new``, then those that are gone."""
    for check, after in new.items():
        before = old.get(check)
        kind = _kind(before, after)
        if kind is not None:
            was = "" if before is None else _told(before, kind)
            yield ParityChange(*check, kind, was, _told(after, kind), explanation(after))
    for check, before in old.items():
        if check not in new:
            yield ParityChange(*check, "gone", outcome(before), "")


def _kind(before: Result | None, after: Result) -> Kind | None:
    """None where nothing changed.

    ``fixed`` is not as expected and yet no regression: the check passes, and the list of known failures is to blame.
    """
    was_wrong, is_wrong = before is not None and _broken(before), _broken(after)
    if is_wrong and not was_wrong:
        return "regressed"
    if before is None:
        return "new"
    if after.status == "skipped" or before.status == "skipped":
        return None if after.status == before.status else "unverified" if after.status == "skipped" else "verified"
    if was_wrong and not is_wrong:
        return "mended"
    if _end(before) != _end(after):
        return "mended" if (before.status, after.status) == ("known", "passed") else "otherwise"
    return "numbers" if _distance(before) != _distance(after) else None


def _broken(result: Result) -> bool:
    return result.status in WRONG and result.status != "fixed"


def _end(result: Result) -> tuple[str | None, ...]:
    return result.status, result.stage, result.symptom


def _distance(result: Result) -> list[tuple[object, ...]]:
    return [(one.at, one.index, str(one.max_abs), one.max_ulp, one.mismatched) for one in result.outputs]


def _told(result: Result, kind: Kind) -> str:
    comparison = telling(result)
    return numbers(comparison) if kind == "numbers" and comparison is not None else outcome(result)


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


MIN_EFFECT = 0.03
"""The least relative change of a latency that counts, where nothing else is asked for."""

_HARDWARE = ("machine", "board", "cpu.model", "cpu.cores", "cpu.threads", "cpu.usable", "gpus", "also")


@dataclass(frozen=True, slots=True)
class Diff:
    """``versions`` are the packages that changed, as ``(before, after)``; ``hardware`` likewise.

    ``latency`` is None where latencies are not compared: the reports come from different hardware.
    """

    versions: Mapping[str, tuple[str, str]]
    hardware: Mapping[str, tuple[str, str]]
    parity: tuple[ParityChange, ...]
    latency: tuple[LatencyChange, ...] | None
    min_effect: float

    @property
    def regressions(self) -> tuple[ParityChange | LatencyChange, ...]:
        """What became worse: the reason for exit code 1."""
        return (
            *(change for change in self.parity if change.worse),
            *(change for change in self.latency or () if change.verdict == "slower"),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        told: dict[str, Any] = to_json(self)
        return {"regressed": bool(self.regressions), **told}


def diff(old: Report, new: Report, *, min_effect: float = MIN_EFFECT, across_hardware: bool = False) -> Diff:
    """Hold ``new`` against ``old``, check by check."""
    hardware = dict(_different(_hardware(old), _hardware(new)))
    before, after = ({(one.case, one.target): one for one in report.results} for report in (old, new))
    compared = across_hardware or not hardware
    return Diff(
        versions=dict(_different(old.environment.get("packages", {}), new.environment.get("packages", {}))),
        hardware=hardware,
        parity=tuple(parity_changes(before, after)),
        latency=tuple(latency_changes(before, after, min_effect, paced=_same_pace(old, new) and not hardware))
        if compared
        else None,
        min_effect=min_effect,
    )


def verdict_of(diff: Diff) -> str:
    """The whole comparison in one sentence."""
    if not diff.regressions:
        return "No regression."
    worse = sum(change.worse for change in diff.parity)
    slower = len(diff.regressions) - worse
    told = [f"{count} {what}" for count, what in ((worse, "no longer as expected"), (slower, "slower")) if count]
    return f"Regressed: {', '.join(told)}."


def _hardware(report: Report) -> dict[str, Any]:
    """What makes two machines different ones; load, frequency and free memory change on one from hour to hour."""
    environment = report.environment
    told: dict[str, Any] = {}
    for key in _HARDWARE:
        room, _, fact = key.rpartition(".")
        told[key] = (environment.get(room) or {}).get(fact) if room else environment.get(fact)
    told["gpus"] = [gpu.get("name") for gpu in environment.get("gpus") or ()]
    return told


def _same_pace(old: Report, new: Report) -> bool:
    """The pace is NumPy's work: another version of it is another pace."""
    versions = [report.environment.get("packages", {}).get("numpy") for report in (old, new)]
    return bool(versions[0] == versions[1])


def _different(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    for key in dict.fromkeys((*old, *new)):
        if old.get(key) != new.get(key):
            yield key, (_shown(old.get(key)), _shown(new.get(key)))


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
