"""The known failures that some specs are held against: all that speak of them, and none that speaks of nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import Problem, SpecError
from harness.spec.discover import Specs
from harness.spec.glob import Names
from harness.spec.known_failures import KnownFailure, load_known_failures
from harness.spec.nearest import few_comparisons, nearest
from harness.spec.target import Target


@few_comparisons()
def listed(
    specs: Specs, paths: Sequence[Path | str], targets: Sequence[Target] = (), given: Path | None = None
) -> tuple[KnownFailure, ...]:
    """The known failures of the ``specs`` under ``paths``: of the list beside them, or the one that is ``given``.

    Where only some files of the list's folder are named, an entry may well speak of the others: it is left out, not
    called stale. Else each must match some case on one of ``targets`` or of those that the specs know, also where a
    run takes only some of either. Raises :class:`SpecError` with every entry that does not.
    """
    path = given or specs.known_failures
    known = load_known_failures(path)
    whole = path is not None and any(Path(each).resolve() == path.parent.resolve() for each in paths)
    cases = Names(case.id for case in specs.cases)
    if not whole and given is None:
        known = tuple(entry for entry in known if cases.any_matching(entry.cases))
    if problems := list(_stale(known, cases, Names(map(str, (*specs.target_sets.all, *targets))))):
        raise SpecError(problems)
    return known


def _stale(known: Sequence[KnownFailure], cases: Names, targets: Names) -> Iterator[Problem]:
    """Entries that could never match a check of these specs, whatever the versions."""
    for entry in known:
        # The two globs are apart, so that no case need be held against every target: there are a million such pairs.
        if cases.any_matching(entry.cases) and targets.any_matching(entry.targets):
            continue
        near = filter(None, (nearest(entry.cases, cases.every), nearest(entry.targets, targets.every)))
        right = "correct its globs" + (f" (near: {said})" if (said := ", ".join(near)) else "") + " or remove it"
        wrong = f"cases {entry.cases!r} on targets {entry.targets!r} match no case of the specs on any known target"
        yield Problem(entry.where, wrong, right)
