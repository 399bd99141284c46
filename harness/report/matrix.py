"""The case-by-target matrix, with matrix points that came to the same collapsed into one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from harness.report.case_name import CaseName
from harness.report.wording import WRONG
from harness.result import Result

Cells = tuple[str, ...]

NO_CHECK = "-"
"""The cell of a case that was not asked for on a target."""


@dataclass(frozen=True, slots=True)
class Row:
    """``cells`` stand in the order of the targets; ``cases`` of the spec's cases came to exactly these."""

    label: str
    cases: int
    cells: Cells


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one spec file."""

    spec: str
    rows: tuple[Row, ...]


def cell(result: Result) -> str:
    """One check in a few words; what is wrong is in capitals, so that it stands out without colour."""
    if result.status == "passed":
        return "pass"
    word = result.status.upper() if result.status in WRONG else result.status
    if result.status == "failed":
        detail = ", ".join(part for part in (result.symptom, result.blame) if part)
    else:
        detail = ": ".join(part for part in (result.stage, result.symptom) if part)
    return f"{word} ({detail})" if detail else word


def targets(results: Sequence[Result]) -> tuple[str, ...]:
    """The targets, in the order in which they first appear."""
    return tuple(dict.fromkeys(result.target for result in results))


def groups(results: Sequence[Result]) -> tuple[Group, ...]:
    """The matrix by spec file, specs and cases in the order in which they first appear."""
    columns = targets(results)
    by_case: dict[str, dict[str, Result]] = {}
    for result in results:
        by_case.setdefault(result.case, {})[result.target] = result
    by_spec: dict[str, dict[str, list[_Line]]] = {}
    for case, row in by_case.items():
        name = CaseName.parse(case)
        cells = tuple(cell(row[target]) if target in row else NO_CHECK for target in columns)
        line = _Line(name, cells, any(result.status in WRONG for result in row.values()))
        by_spec.setdefault(name.spec, {}).setdefault(name.family, []).append(line)
    return tuple(
        Group(spec, tuple(row for lines in families.values() for row in _collapse(lines)))
        for spec, families in by_spec.items()
    )


@dataclass(frozen=True, slots=True)
class _Line:
    name: CaseName
    cells: Cells
    wrong: bool


def _collapse(family: Sequence[_Line]) -> list[Row]:
    """One row for all points with equal cells; a point with anything wrong keeps a row of its own."""
    order = {line.cells: position for position, line in reversed(list(enumerate(family)))}
    rows: list[Row] = []
    for cells, alike in groupby(sorted(family, key=lambda line: order[line.cells]), key=lambda line: line.cells):
        lines = list(alike)
        if len(lines) == 1 or lines[0].wrong:
            rows += [Row(line.name.short, 1, cells) for line in lines]
        else:
            rows.append(Row(_shared_label(lines, alone=len(lines) == len(family)), len(lines), cells))
    return rows


def _shared_label(lines: Sequence[_Line], *, alone: bool) -> str:
    """``windows[...]`` for a whole family; else with the settings that all of these points share."""
    name = lines[0].name
    if alone:
        return f"{name.family}[...]"
    common = [setting for setting in name.point if all(setting in line.name.point for line in lines)]
    return f"{name.family}[{','.join([*common, '...'])}]"
