"""What lets a reader see a failure for himself: pictures of where an answer differs, and a script that shows it.

The steps that every check takes: is the runtime there, where did the nodes run, how long did it take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from harness.check.settings import Settings
from harness.check.stages import Clock, is_of_the_code, message_of
from harness.compare.pictures import pictures
from harness.compare.verdict import Comparison
from harness.latency import quick
from harness.latency.sampling import Call
from harness.model.answer import Reference
from harness.registry import plugins
from harness.reproduction import reproduction
from harness.result import Result
from harness.runtimes import Availability, Placement, Session
from harness.spec.language.case import Case
from harness.spec.targets import Target

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


def begun(case: Case, target: Target, clock: Clock) -> Result:
    """The result of a check before anything is known: passed, or skipped where the runtime is not on this machine."""
    blank = Result(case.id, str(target), "passed", seconds=clock.seconds, where=str(case.where))
    available = _available(target.runtime)
    if available.present:
        return blank
    return replace(
        blank, status="skipped", stage="load", symptom="unavailable", message=available.why_not(target.runtime)
    )


def placed(result: Result, placement: Placement | None) -> Result:
    """``result`` with where its nodes ran; a pass with nodes where the target does not allow them is none."""
    return replace(result, **where_it_ran(placement, passed=result.status == "passed"))


def where_it_ran(placement: Placement | None, *, passed: bool) -> dict[str, Any]:
    """The fields of a result that tell where its nodes ran; ``passed`` where nothing else was found wrong."""
    if placement is None:
        return {}
    told = {"placement": {"asked": placement.asked, "nodes": placement.nodes, "stray": placement.stray}}
    if not placement.stray or not passed:
        return told
    number = "1 node" if len(placement.stray) == 1 else f"{len(placement.stray)} nodes"
    said = f"{number} ran outside {placement.asked}: {', '.join(placement.stray)}"
    return {**told, "status": "failed", "stage": "load", "symptom": "placement", "message": said}


def timed(
    result: Result,
    session: Session,
    inputs: Mapping[str, Array],
    baseline: Callable[[], Call | None],
    clock: Clock,
    settings: Settings,
) -> Result:
    """``result`` with its latency beside that of the call which ``baseline`` makes.

    A runtime that answers but cannot be bound for timing is told in a note.
    """
    try:
        latency = quick(session.bind(inputs), baseline=baseline())
    except BaseException as error:
        if not is_of_the_code(error):
            raise
        return replace(result, notes=(*result.notes, f"not timed: {message_of(error)}"))
    facts = {**session.facts(), "concurrent_workers": settings.concurrent}
    first = {"load_s": clock.seconds["load"], "first_run_s": clock.seconds["run"]}
    return replace(result, latency={**latency.to_dict(), **first, **facts})


@cache
def _available(runtime: str) -> Availability:
    found = plugins("runtimes")[runtime].availability()
    assert isinstance(found, Availability)
    return found
