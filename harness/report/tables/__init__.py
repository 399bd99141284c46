"""Markdown tables of the report: the matrix of cases by targets, and the execution providers of the nodes.

Text that came from elsewhere (ids, messages, logs) is escaped first. Python has no well-kept library for this
direction. CommonMark's rule is that a backslash may escape any ASCII punctuation; only characters that would have a
meaning are escaped, so that the unrendered file reads well too. GitHub cuts the cells of a table at an unescaped ``|``,
even inside a code span.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from tabulate import tabulate

from harness.errors import one_line, printable
from harness.report.wording import UNEXPECTED, CaseName, stage_and_symptom
from harness.result import Result

# Text

_HAS_MEANING = re.compile(
    r"""
    [\\`*\[<|$]              # anywhere
    | (?<![^\W_])_ | _(?![^\W_])  # emphasis; an underscore within a name is a letter
    | ~(?=~) | (?<=~)~       # strikethrough
    | &(?=\#?\w+;)           # a character reference
    | ^[#>]                  # a heading, a quotation
    | ^[+-](?=[\s-]|$)       # a list, a rule
    | ^\d{1,9}[.)](?=\s|$)   # a numbered list
    """,
    re.VERBOSE,
)
_NO_CODE_SPAN = re.compile(r"[|`\\]|^$")
_ADDRESS = re.compile(r"https?://[^\s<>|`\\]+")


def plain(text: str) -> str:
    """``text`` on one line, escaped so that a Markdown reader shows exactly this text."""
    return _HAS_MEANING.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", printable(one_line(text)))


def code(text: str) -> str:
    """``text`` as a code span, or escaped if a code span in a table cannot hold it."""
    line = printable(one_line(text))
    return plain(line) if _NO_CODE_SPAN.search(line) else f"`{line}`"


def command(text: str) -> str:
    """A command as a code span that keeps every character, backticks and blanks included. Not for a table."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence, blank = "`" * (longest + 1), " " if "`" in (text[:1], text[-1:]) else ""
    return f"{fence}{blank}{text}{blank}{fence}"


def link(text: str) -> str:
    """``text`` as a link if it is an address, else escaped."""
    return f"<{text}>" if _ADDRESS.fullmatch(text) else plain(text)


def fenced(text: str) -> str:
    """``text`` as a block, in a fence longer than any that it contains."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{printable(text)}\n{fence}"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table. Every cell must be escaped already; numbers stay as they are written."""
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


# The matrix: matrix points with equal cells are one row

Cells = tuple[str, ...]

NO_CHECK = "-"
"""The cell of a case that did not run on a target."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the matrix: ``cells`` are in the order of the targets, and ``cases`` cases have exactly these."""

    label: str
    cases: int
    cells: Cells


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one spec file."""

    spec: str
    rows: tuple[Row, ...]


def groups(results: Sequence[Result]) -> tuple[Group, ...]:
    """The matrix by spec file; specs and cases are in the order in which they first appear."""
    columns = targets(results)
    by_case: dict[str, dict[str, Result]] = {}
    for result in results:
        by_case.setdefault(result.case, {})[result.target] = result
    by_spec: dict[str, dict[str, list[_Line]]] = {}
    for case, row in by_case.items():
        name = CaseName.parse(case)
        cells = tuple(cell(row[target]) if target in row else NO_CHECK for target in columns)
        line = _Line(name, cells, any(result.status in UNEXPECTED for result in row.values()))
        by_spec.setdefault(name.spec, {}).setdefault(name.family, []).append(line)
    return tuple(
        Group(spec, tuple(row for lines in families.values() for row in _collapse(lines)))
        for spec, families in by_spec.items()
    )


def targets(results: Sequence[Result]) -> tuple[str, ...]:
    """The targets, in the order in which they first appear."""
    return tuple(dict.fromkeys(result.target for result in results))


def cell(result: Result) -> str:
    """One check in a few words. Unexpected results are in capitals, so that they stand out without colour."""
    if result.status == "passed":
        return "pass"
    word = result.status.upper() if result.status in UNEXPECTED else result.status
    if result.status == "failed":
        detail = ", ".join(part for part in (result.symptom, result.blame) if part)
    else:
        detail = stage_and_symptom(result)
    return f"{word} ({detail})" if detail else word


@dataclass(frozen=True, slots=True)
class _Line:
    name: CaseName
    cells: Cells
    unexpected: bool


def _collapse(family: Sequence[_Line]) -> list[Row]:
    """One row for all points with equal cells; a point with an unexpected check keeps its own row."""
    order = {line.cells: position for position, line in reversed(list(enumerate(family)))}
    rows: list[Row] = []
    for cells, equal in groupby(sorted(family, key=lambda line: order[line.cells]), key=lambda line: line.cells):
        lines = list(equal)
        if len(lines) == 1 or lines[0].unexpected:
            rows += [Row(line.name.short, 1, cells) for line in lines]
        else:
            rows.append(Row(_shared_label(lines, whole_family=len(lines) == len(family)), len(lines), cells))
    return rows


def _shared_label(lines: Sequence[_Line], *, whole_family: bool) -> str:
    """``windows[...]`` for a whole family; else with the settings that all of these points share."""
    name = lines[0].name
    if whole_family:
        return f"{name.family}[...]"
    common = [setting for setting in name.point if all(setting in line.name.point for line in lines)]
    return f"{name.family}[{','.join([*common, '...'])}]"


# Placement

_MAX_OPERATORS = 8
"""Operators listed per provider; ``report.json`` has all of them, check by check."""


def matrix_blocks(results: Sequence[Result]) -> Iterator[str]:
    """The cases of each spec by targets, in Markdown; nothing without results."""
    if not results:
        return
    yield "## Cases by targets"
    yield "`[...]` stands for matrix points with equal results. Unexpected results are in capitals, in their own rows."
    columns = [code(target) for target in targets(results)]
    for group in groups(results):
        yield f"### {code(group.spec) if group.spec else 'cases'}"
        yield table(
            ["case", "points", *columns],
            [[code(row.label), f"{row.cases:,}", *row.cells] for row in group.rows],
        )


def placement_blocks(results: Sequence[Result]) -> Iterator[str]:
    """The operators of each target by execution provider; nothing if no runtime reported a placement."""
    placed = [result for result in results if result.placement is not None]
    if not placed:
        return
    yield "## Where the nodes ran"
    rows = []
    for target in targets(placed):
        of_target = [result for result in placed if result.target == target]
        for provider, operators in _operators(of_target).items():
            common = ", ".join(f"{operator} {count:,}" for operator, count in operators.most_common(_MAX_OPERATORS))
            more = len(operators) - _MAX_OPERATORS
            listed = plain(common + (f" and {more} more operators" if more > 0 else ""))
            rows.append([code(target), code(provider), f"{operators.total():,}", listed, _stray_nodes(of_target)])
    yield table(["target", "execution provider", "nodes", "operators", "outside the requested provider"], rows)


def _operators(results: Sequence[Result]) -> dict[str, Counter[str]]:
    by_provider: dict[str, Counter[str]] = {}
    for result in results:
        for provider, operators in (result.placement or {}).get("nodes", {}).items():
            by_provider.setdefault(provider, Counter()).update(operators)
    return by_provider


def _stray_nodes(results: Sequence[Result]) -> str:
    count = sum(len((result.placement or {}).get("stray", ())) for result in results)
    return f"{count:,}" if count else "none"
