"""What changed from one report to another: in parity, and in latency if both were measured alike.

Parity: checks with another status, stage or symptom than before, or with larger or smaller errors.

Latency: :mod:`harness.report.diff.latency`. Load, first run, memory and nodes: :mod:`harness.report.diff.start`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.report.diff.latency import Checks, LatencyChange, latency_changes
from harness.report.diff.start import NodeChange, StartChange, StartFigure, node_changes, start_changes
from harness.report.wording import UNEXPECTED, comparison_line, explanation, main_comparison, outcome
from harness.result import Report, Result, to_json

GATED: Mapping[StartFigure, str] = {
    "load": "slower to load",
    "first": "slower in the first run",
    "memory": "with more peak memory",
}
MIN_EFFECT = 0.03
"""The default of the smallest relative change of a latency that counts."""

Kind = Literal["regressed", "mended", "otherwise", "numbers", "new", "gone", "unverified", "verified"]

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


@dataclass(frozen=True, slots=True)
class ParityChange:
    """One check. ``before`` and ``after`` are its outcomes, empty where a report does not have the check.

    ``regressed``: it was as expected and is not now. ``mended``: the opposite. ``otherwise``: it ends with another
    status, stage or symptom, and neither is worse. ``numbers``: it ends as before, with other errors. ``new``,
    ``gone``: only one report has it. ``unverified``: it is skipped now. ``verified``: it was skipped before. ``worse``
    is a regression: one that regressed, a new one that is not as expected, or a lost one, unless checks may be missing.
    """

    case: str
    target: str
    kind: Kind
    before: str
    after: str
    detail: str
    worse: bool


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
        calibrated = has_same_calibration_loop(old, new) and not hardware
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


def is_same_request(before: Mapping[str, object], now: Mapping[str, object]) -> bool:
    """True if both runs were to do the same checks, so that one that is missing now was lost."""
    return all(before.get(key) == now[key] for key in ("paths", "targets", "keywords", "shard"))


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
            yield ParityChange(*check, "gone", outcome(before), "", "", worse=not allow_missing)


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


def has_same_calibration_loop(old: Report, new: Report) -> bool:
    """True if both ran one calibration loop. It runs in NumPy: another version of it is another loop."""
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
