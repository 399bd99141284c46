"""What changed from one report to the next: in parity, and in latency where both were measured alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.report.diff_latency import LatencyChange, latency_changes
from harness.report.diff_parity import ParityChange, parity_changes
from harness.result import Report, to_json

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
