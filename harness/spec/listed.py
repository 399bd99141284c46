"""The known failures that some specs are held against: all that speak of them, and none that speaks of nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from harness.errors import Problem, SpecError
from harness.spec.discover import Specs
from harness.spec.glob import matches
from harness.spec.known_failures import KnownFailure, load_known_failures
from harness.spec.target import Target


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
    cases = [case.id for case in specs.cases]
    if not whole and given is None:
        known = tuple(entry for entry in known if any(matches(entry.cases, case) for case in cases))
    if problems := list(_stale(known, cases, sorted({*map(str, specs.target_sets.all), *map(str, targets)}))):
        raise SpecError(problems)
    return known


def _stale(known: Sequence[KnownFailure], cases: Collection[str], targets: Collection[str]) -> Iterator[Problem]:
    """Entries that could never match a check of these specs, whatever the versions."""
    for entry in known:
        # The two globs are apart, so that no case need be held against every target: there are a million such pairs.
        if any(matches(entry.cases, case) for case in cases) and any(matches(entry.targets, one) for one in targets):
            continue
        near = [*get_close_matches(entry.cases, cases, n=1), *get_close_matches(entry.targets, targets, n=1)]
        right = "correct its globs" + (f" (near: {', '.join(near)})" if near else "") + " or remove it"
        wrong = f"cases {entry.cases!r} on targets {entry.targets!r} match no case of the specs on any known target"
        yield Problem(entry.where, wrong, right)
