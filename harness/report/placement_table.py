"""Where the nodes of the graphs ran: per target, each execution provider with its operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from harness.report.markup import code, plain, table
from harness.report.matrix import targets
from harness.result import Result

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
