"""What changed from one report to another: in parity, and in latency if both were measured alike.

Parity: checks with another status, stage or symptom than before, or with larger or smaller errors.

Latency: by the rule of :mod:`harness.latency.change`. The compared values are undisturbed times, the fastest samples
of each process (:func:`harness.latency.conditions.undisturbed_time`). Other work on the machine only ever adds time,
and not always the same, so that these values repeat from day to day several times better than medians do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from harness.latency.change import Side, Verdict, change
from harness.latency.conditions import Samples, counted_rounds, undisturbed_time
from harness.report.diff.start import NodeChange, StartChange, StartFigure, node_changes, start_changes
from harness.report.wording import UNEXPECTED, comparison_line, explanation, main_comparison, outcome
from harness.result import Report, Result, to_json

GATED: Mapping[StartFigure, str] = {
    "load": "slower to load",
    "first": "slower in the first run",
    "memory": "in need of more memory",
}
MIN_EFFECT = 0.03
"""The default of the smallest relative change of a latency that counts."""

Kind = Literal["regressed", "mended", "otherwise", "numbers", "new", "gone", "unverified", "verified"]
Checks = Mapping[tuple[str, str], Result]
Figure = Mapping[str, Any]

PARITY_LABELS: Mapping[str, str] = {
    "regressed": "regressed",
    "mended": "resolved",
    "otherwise": "changed",
    "unverified": "unverified",
    "verified": "verified",
    "new": "new",
    "gone": "lost",
    "numbers": "error size",
}
"""The kinds of changes as people read them, the most urgent first. report.json has the keys."""

LATENCY_ORDER = ("slower", "faster", "inconclusive", "not comparable", "no change")


@dataclass(frozen=True, slots=True)
class ParityChange:
    """One check. ``before`` and ``after`` are its outcomes, empty where a report does not have the check.

    ``regressed``: it was as expected and is not now. ``mended``: the opposite. ``otherwise``: it ends with another
    status, stage or symptom, and neither is worse. ``numbers``: it ends as before, with other errors. ``new``,
    ``gone``: only one report has it. ``unverified``: it is skipped now. ``verified``: it was skipped before.

    ``worse`` marks a regression: a check that regressed, a new one that is not as expected, and a lost one unless
    checks may be missing.
    """

    case: str
    target: str
    kind: Kind
    before: str
    after: str
    detail: str = ""
    worse: bool = False


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


@dataclass(frozen=True, slots=True)
class Diff:
    """Everything that changed.

    ``versions`` are the packages that changed, as ``(before, after)``; ``hardware`` likewise. ``latency`` is None if
    latencies are not compared, because the reports come from different hardware; ``start`` and ``nodes`` are empty
    then. Of ``start``, the figures in ``gate`` count as regressions.
    """

    versions: Mapping[str, tuple[str, str]]
    hardware: Mapping[str, tuple[str, str]]
    parity: tuple[ParityChange, ...]
    latency: tuple[LatencyChange, ...] | None
    min_effect: float
    start: tuple[StartChange, ...] = ()
    nodes: tuple[NodeChange, ...] = ()
    gate: tuple[StartFigure, ...] = ()

    @property
    def regressions(self) -> tuple[ParityChange | LatencyChange | StartChange, ...]:
        """What became worse: the reason for exit code 1."""
        return (
            *(change for change in self.parity if change.worse),
            *(change for change in self.latency or () if change.verdict == "slower"),
            *(change for change in self.start if change.verdict == "slower" and change.figure in self.gate),
        )

    @property
    def ungated(self) -> tuple[StartFigure, ...]:
        """The figures in ``gate`` that no check has in both reports: a gate that compared nothing fails."""
        return tuple(figure for figure in self.gate if all(change.figure != figure for change in self.start))

    @property
    def regressed(self) -> bool:
        """True if anything became worse, or a gate compared nothing."""
        return bool(self.regressions or self.ungated)

    def to_dict(self) -> dict[str, Any]:
        """The diff in types that JSON has."""
        fields: dict[str, Any] = to_json(self)
        return {"regressed": self.regressed, **fields}


def diff(
    old: Report,
    new: Report,
    *,
    min_effect: float = MIN_EFFECT,
    across_hardware: bool = False,
    allow_missing: bool = False,
    gate: Sequence[StartFigure] = (),
) -> Diff:
    """Compare ``new`` with ``old``, check by check. A check that only ``old`` has counts unless ``allow_missing``.

    The figures in ``gate`` count as the latency does.
    """
    hardware = dict(_different(_hardware(old), _hardware(new)))
    before, after = ({(one.case, one.target): one for one in report.results} for report in (old, new))
    latency = None
    if across_hardware or not hardware:
        calibrated = _same_calibration_loop(old, new) and not hardware
        latency = tuple(latency_changes(before, after, min_effect, calibrated=calibrated))
    return Diff(
        versions=dict(_different(old.environment.get("packages", {}), new.environment.get("packages", {}))),
        hardware=hardware,
        parity=tuple(parity_changes(before, after, allow_missing=allow_missing)),
        latency=latency,
        min_effect=min_effect,
        start=() if latency is None else tuple(start_changes(before, after, min_effect)),
        nodes=() if latency is None else tuple(node_changes(before, after, min_effect)),
        gate=tuple(gate),
    )


def verdict_of(diff: Diff) -> str:
    """The whole comparison in one sentence."""
    if not diff.regressed:
        return "No regression."
    worse = Counter(change.kind for change in diff.parity if change.worse)
    gated = Counter(change.figure for change in diff.regressions if isinstance(change, StartChange))
    slower = len(diff.regressions) - worse.total() - gated.total()
    nouns = ((worse["regressed"], "no longer as expected"), (worse["new"], "new and not as expected"))
    counts = [f"{count} {noun}" for count, noun in (*nouns, (worse["gone"], "lost"), (slower, "slower")) if count]
    counts += [f"{count} {GATED[figure]}" for figure, count in gated.items()]
    counts += [f"{figure} is gated and not in both reports; measure both with harness bench" for figure in diff.ungated]
    return f"Regressed: {', '.join(counts)}."


# Parity


def parity_changes(old: Checks, new: Checks, *, allow_missing: bool) -> Iterator[ParityChange]:
    """Every check that changed, in the order of ``new``, then those that only ``old`` has."""
    for check, after in new.items():
        before = old.get(check)
        kind = _kind(before, after)
        if kind is not None:
            was = "" if before is None else _summary(before, kind)
            worse = kind == "regressed" or (kind == "new" and _is_broken(after))
            yield ParityChange(*check, kind, was, _summary(after, kind), explanation(after), worse)
    for check, before in old.items():
        if check not in new:
            yield ParityChange(*check, "gone", outcome(before), "", worse=not allow_missing)


def _kind(before: Result | None, after: Result) -> Kind | None:
    """The kind of change; None if nothing changed.

    ``fixed`` is not as expected, but is no regression: the check passes, and the list of known failures is wrong.
    """
    if before is None:
        return "new"
    was_broken, is_broken = _is_broken(before), _is_broken(after)
    if is_broken and not was_broken:
        return "regressed"
    if after.status == "skipped" or before.status == "skipped":
        return None if after.status == before.status else "unverified" if after.status == "skipped" else "verified"
    if was_broken and not is_broken:
        return "mended"
    if _outcome_fields(before) != _outcome_fields(after):
        return "mended" if (before.status, after.status) == ("known", "passed") else "otherwise"
    return "numbers" if _errors(before) != _errors(after) else None


def _is_broken(result: Result) -> bool:
    return result.status in UNEXPECTED and result.status != "fixed"


def _outcome_fields(result: Result) -> tuple[str | None, ...]:
    return result.status, result.stage, result.symptom


def _errors(result: Result) -> list[tuple[object, ...]]:
    return [(one.at, one.index, str(one.max_abs), one.max_ulp, one.mismatched) for one in result.outputs]


def _summary(result: Result, kind: Kind) -> str:
    comparison = main_comparison(result)
    return comparison_line(comparison) if kind == "numbers" and comparison is not None else outcome(result)


# Latency

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


def _same_calibration_loop(old: Report, new: Report) -> bool:
    """The calibration loop runs in NumPy: another version of it is another loop."""
    versions = [report.environment.get("packages", {}).get("numpy") for report in (old, new)]
    return bool(versions[0] == versions[1])


# Machines and versions

_HARDWARE = ("machine", "board", "cpu.model", "cpu.cores", "cpu.threads", "cpu.usable", "gpus", "also")


def _hardware(report: Report) -> dict[str, Any]:
    """What distinguishes two machines. Load, frequency and free memory change from hour to hour on one machine."""
    environment = report.environment
    facts: dict[str, Any] = {}
    for key in _HARDWARE:
        part, _, name = key.rpartition(".")
        facts[key] = (environment.get(part) or {}).get(name) if part else environment.get(name)
    facts["gpus"] = [gpu.get("name") for gpu in environment.get("gpus") or ()]
    return facts


def _different(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    for key in dict.fromkeys((*old, *new)):
        if old.get(key) != new.get(key):
            yield key, (_text(old.get(key)), _text(new.get(key)))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
