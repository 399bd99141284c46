"""Joins the reports of the shards of one run, or of several machines, into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import Location, Problem, SpecError
from harness.report.machines import machine, side_by_side
from harness.result import Report, Result

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
