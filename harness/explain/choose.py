"""Which check is meant: a case by its id or a part of it, and a target."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import UsageError
from harness.plan import plan
from harness.spec.case import Case
from harness.spec.discover import Specs
from harness.spec.nearest import suggestion
from harness.spec.target import Target

SHOWN = 6


def choose_case(cases: Sequence[Case], text: str) -> Case:
    """The case whose id is ``text``, else the only one whose id holds it.

    Raises :class:`UsageError` where there is none, or more than one.
    """
    exact = [case for case in cases if case.id == text]
    found = exact or [case for case in cases if text in case.id]
    if len(found) == 1:
        return found[0]
    if not found:
        right = suggestion(text, [case.id for case in cases], "harness list shows the cases")
        raise UsageError(f"{text}: no case is called so; {right}")
    names = ", ".join(case.id for case in found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
    raise UsageError(f"{text}: part of the ids of {len(found)} cases; name one of {names}")


def choose_target(specs: Specs, case: Case, text: str | None) -> Target:
    """The one target that ``text`` names; None where there is only one that a run takes ``case`` to.

    Raises :class:`UsageError` for several, or one that cannot take ``case``.
    """
    if text is None:
        return _only_target(specs, case)
    found = specs.target_sets.select((text,))
    if len(found) > 1:
        raise UsageError(f"--target {text}: names {len(found)} targets; one of {', '.join(map(str, found))}")
    plan([case], found, (), None)
    return found[0]


def _only_target(specs: Specs, case: Case) -> Target:
    ((_, targets),) = plan([case], specs.target_sets.select(("default",)), (), None).work
    if len(targets) > 1:
        raise UsageError(f"{case.id}: --target says where it fails; one of {', '.join(map(str, targets))}")
    return targets[0]
