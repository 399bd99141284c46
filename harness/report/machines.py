"""The environment and the run as rows: nested facts get dotted names.

Whose machine a report comes from, so that the same check on a host and on a board can stand side by side.

Joins the reports of the shards of one run, or of several machines, into one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import Location, Problem, SpecError
from harness.result import Report, Result

_TOLD_ELSEWHERE = ("run.complaints", "run.comparison")


def about(report: Report) -> Iterator[tuple[str, str]]:
    """The machine, the versions and the run; less the complaints and the comparison, which have places of their own."""
    yield from facts(report.environment)
    run = facts(report.run, "run.")
    yield from ((name, value) for name, value in run if not name.startswith(_TOLD_ELSEWHERE))


def facts(environment: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every fact as its dotted name and its value; facts that are None are left out."""
    for key, value in environment.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from facts(value, f"{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _listed(name, value)
        elif value is not None:
            yield name, str(value)


def _listed(name: str, values: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Plain values on one row; things with facts of their own, such as GPUs, numbered."""
    if any(isinstance(value, Mapping) for value in values):
        yield from facts({str(number): value for number, value in enumerate(values)}, f"{name}.")
    elif values:
        yield name, ", ".join(map(str, values))


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


# What was held against a baseline was one part; `harness diff` holds the whole against it.
_OF_ONE_PART = ("baseline", "comparison")


def merge(reports: Sequence[tuple[Path, Report]]) -> Report:
    """One report with every result once, in the order given.

    Where the same check was done on several machines, a host and a board, each target is told with its machine.
    Raises :class:`SpecError` for a check that two reports of one machine hold: which of them would be right?
    """
    names, told = side_by_side([report for _, report in reports])
    first: dict[tuple[str, str], Path] = {}
    problems: list[Problem] = []
    results: list[Result] = []
    for (path, _), own in zip(reports, told, strict=True):
        for result in own:
            check = (result.case, result.target)
            if check in first:
                wrong = f"{result.case} on {result.target} is in {first[check]} as well"
                problems.append(Problem(Location(str(path)), wrong, "merge each check once"))
            first.setdefault(check, path)
            results.append(result)
    if problems:
        raise SpecError(problems)
    return Report(_environment(reports), tuple(results), _run(reports) | ({"machines": list(names)} if names else {}))


def _environment(reports: Sequence[tuple[Path, Report]]) -> Mapping[str, Any]:
    """The one environment, or all of them where the reports come from different machines."""
    environments = [report.environment for _, report in reports]
    telling = [machine(environment) for environment in environments]
    if all(one == telling[0] for one in telling):
        return environments[0]
    return {
        **environments[0],
        "also": [one for one, told in zip(environments, telling, strict=True) if told != telling[0]],
    }


def _run(reports: Sequence[tuple[Path, Report]]) -> dict[str, Any]:
    runs = [report.run for _, report in reports]
    return {
        **{key: value for key, value in runs[0].items() if key not in _OF_ONE_PART},
        "shard": None,
        "merged": [str(path) for path, _ in reports],
        "seconds": round(sum(float(run.get("seconds", 0.0)) for run in runs), 2),
        "exports": {key: sum((run.get("exports") or {}).get(key, 0) for run in runs) for key in ("made", "from_cache")},
        "interrupted": any(run.get("interrupted") for run in runs),
        "interrupted_by": next((run["interrupted_by"] for run in runs if run.get("interrupted_by")), None),
        "complaints": list(dict.fromkeys(line for run in runs for line in run.get("complaints", ()))),
    }
