"""The environment and the run as rows: nested facts get dotted names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.result import Report

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
