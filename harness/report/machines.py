"""Whose machine a report comes from, so that the same check on a host and on a board can stand side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.result import Report, Result

# What tells two machines apart; load, frequency and free memory change from hour to hour on one.
_MACHINE = ("board", "gpus", "packages", "os", "python")
_CPU = ("model", "cores", "threads", "usable", "features")

ON = " on "
"""Stands between a target and its machine; a target itself has no blanks."""


def without_machine(target: str) -> str:
    """The target as it was asked for."""
    return target.partition(ON)[0]


def machine(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``environment`` that is the same on every run on one machine."""
    cpu = environment.get("cpu") or {}
    return {key: environment.get(key) for key in _MACHINE} | {"cpu": {key: cpu.get(key) for key in _CPU}}


def side_by_side(reports: Sequence[Report]) -> tuple[tuple[str, ...], tuple[tuple[Result, ...], ...]]:
    """The names of the machines, and each report's results with its machine in their targets.

    The names are empty, and the results as they were, where no check was done on more than one machine: the reports
    are shards then, or of targets that only one machine has.
    """
    machines: list[dict[str, Any]] = []
    for report in reports:
        if (one := machine(report.environment)) not in machines:
            machines.append(one)
    places = [machines.index(machine(report.environment)) for report in reports]
    seen: dict[tuple[str, str], int] = {}
    if not any(
        seen.setdefault((result.case, result.target), place) != place
        for place, report in zip(places, reports, strict=True)
        for result in report.results
    ):
        return (), tuple(report.results for report in reports)
    names = _names([reports[places.index(number)].environment for number in range(len(machines))])
    return names, tuple(
        tuple(replace(result, target=f"{result.target}{ON}{names[place]}") for result in report.results)
        for place, report in zip(places, reports, strict=True)
    )


def _names(environments: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The board's name, or the processor's; numbered where two machines are called the same."""
    called = [_called(environment) for environment in environments]
    earlier = [called[:number].count(name) for number, name in enumerate(called)]
    return tuple(f"{name} ({nth + 1})" if nth else name for name, nth in zip(called, earlier, strict=True))


def _called(environment: Mapping[str, Any]) -> str:
    cpu = environment.get("cpu") or {}
    return str(environment.get("board") or cpu.get("model") or environment.get("machine") or "unknown machine")
