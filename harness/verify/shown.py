"""What lets a reader see a failure for himself: pictures of where an answer differs, and a script that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from harness.compare.pictures import pictures
from harness.compare.verdict import Comparison
from harness.model.answer import Reference
from harness.reproduction import reproduction
from harness.result import Result
from harness.spec.case import Case
from harness.spec.target import Target

Array = NDArray[Any]

MOST = 4
"""So many pictures of one check are kept: a report holds thousands of checks."""


@dataclass(frozen=True, slots=True)
class Sides:
    """One comparison with what was compared; ``undefined`` goes by the output's index."""

    comparison: Comparison
    actual: Mapping[str, Array]
    expected: Mapping[str, Array]
    undefined: Sequence[Array | None] = ()


def pictured(result: Result, compared: Iterable[Sides]) -> Result:
    """``result`` with a picture of each output that differs, :data:`MOST` at most; ``at`` names its shapes."""
    drawn = (
        {**picture, "at": sides.comparison.at}
        for sides in compared
        for picture in pictures(sides.comparison.outputs, sides.actual, sides.expected, sides.undefined)
    )
    shown = tuple(islice(drawn, MOST))
    return replace(result, pictures=shown) if shown else result


def with_script(result: Result, case: Case, target: Target, ask: Callable[[], Reference] | None = None) -> Result:
    """``result`` with a script that shows its failure without harness, where there can be one. It was not run.

    ``ask`` gives what eager torch and the definition said, where they need not be asked again.
    """
    if result.status not in {"failed", "error"}:
        return result
    return replace(result, reproduction=reproduction(case, target, result, ask))
