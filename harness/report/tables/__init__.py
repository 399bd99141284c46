"""Text that came from elsewhere (ids, messages, logs), made safe to stand in Markdown.

Python has no well-kept library for this direction. The rule is CommonMark's own: any ASCII
punctuation may be escaped by a backslash; only what would mean something is, so that the file
reads well unrendered too. GitHub's tables cut cells at an unescaped ``|``, even inside a code span.

The case-by-target matrix, with matrix points that came to the same collapsed into one row.

Where the nodes of the graphs ran: per target, each execution provider with its operators.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from tabulate import tabulate

from harness.report.wording import WRONG, CaseName, one_line, printable
from harness.result import Result

_MEANS_SOMETHING = re.compile(
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
    """``text`` on one line, read back by a Markdown reader exactly as it stands."""
    return _MEANS_SOMETHING.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", printable(one_line(text)))


def code(text: str) -> str:
    """``text`` as a code span, or escaped where a code span in a table could not hold it."""
    line = printable(one_line(text))
    return plain(line) if _NO_CODE_SPAN.search(line) else f"`{line}`"


def command(text: str) -> str:
    """A command as a code span that holds it letter for letter, backticks and blanks included; not for a table."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence, blank = "`" * (longest + 1), " " if "`" in (text[:1], text[-1:]) else ""
    return f"{fence}{blank}{text}{blank}{fence}"


def link(text: str) -> str:
    """``text`` as a link where it is an address, else as it stands."""
    return f"<{text}>" if _ADDRESS.fullmatch(text) else plain(text)


def fenced(text: str) -> str:
    """``text`` as a block, in a fence longer than any that it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{printable(text)}\n{fence}"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table; every cell must be safe already. Figures stay as they are written."""
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


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


_NAMED = 8
"""So many operators are named for each provider; ``report.json`` has them all, check by check."""


def placement_blocks(results: Sequence[Result]) -> Iterator[str]:
    """Nothing where no runtime has several places to run on."""
    placed = [result for result in results if result.placement is not None]
    if not placed:
        return
    yield "## Where the nodes ran"
    rows = []
    for target in targets(placed):
        here = [result for result in placed if result.target == target]
        for provider, operators in _operators(here).items():
            common = [f"{operator} {count:,}" for operator, count in operators.most_common(_NAMED)]
            more = len(operators) - _NAMED
            said = ", ".join(common) + (f" and {more} more operators" if more > 0 else "")
            rows.append([code(target), code(provider), f"{operators.total():,}", plain(said), _stray(here)])
    yield table(["target", "execution provider", "nodes", "operators", "outside the asked provider"], rows)


def _operators(results: Sequence[Result]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for result in results:
        for provider, operators in (result.placement or {}).get("nodes", {}).items():
            found.setdefault(provider, Counter()).update(operators)
    return found


def _stray(results: Sequence[Result]) -> str:
    count = sum(len((result.placement or {}).get("stray", ())) for result in results)
    return f"{count:,}" if count else "none"
