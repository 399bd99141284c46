"""What the audit found: mutants before cases, and the gaps that they leave.

The audit for people: how many mutants are noticed by layer, where the gaps are, and which mutants nothing could tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tabulate import tabulate


@dataclass(frozen=True, slots=True)
class MutantOutcome:
    """One mutant before one case. ``excuse`` says why no input could tell, where none could."""

    case: str
    layer: str
    mutant: str
    noticed: bool
    excuse: str | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """What all cases made of all their mutants; ``left_out`` says by case why it was shown none."""

    mutant_outcomes: tuple[MutantOutcome, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def fair(self) -> tuple[MutantOutcome, ...]:
        """Those that some input could have told apart."""
        return tuple(one for one in self.mutant_outcomes if one.excuse is None)

    @property
    def blind_cases(self) -> tuple[str, ...]:
        """Cases that notice none of their mutants, although some could be told apart."""
        noticing = {one.case for one in self.fair if one.noticed}
        return tuple(dict.fromkeys(one.case for one in self.fair if one.case not in noticing))

    @property
    def surviving_mutants(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """By layer and mutant the cases that it was shown to, where none of them notices it."""
        noticed = {(one.layer, one.mutant) for one in self.fair if one.noticed}
        missed = [one for one in self.fair if (one.layer, one.mutant) not in noticed]
        return {
            name: tuple(dict.fromkeys(one.case for one in missed if (one.layer, one.mutant) == name))
            for name in dict.fromkeys((one.layer, one.mutant) for one in missed)
        }

    @property
    def passed(self) -> bool:
        """True where something was looked at, every case notices some mutant and every mutant is noticed by some case."""
        return bool(self.fair) and not self.blind_cases and not self.surviving_mutants

    def by_layer(self) -> Iterator[tuple[str, tuple[MutantOutcome, ...]]]:
        """Every layer with what was shown in its place, in the order of the specs."""
        for layer in dict.fromkeys(one.layer for one in self.mutant_outcomes):
            yield layer, tuple(one for one in self.mutant_outcomes if one.layer == layer)


MOST = 3
"""How many cases are named where a mutant is not noticed."""


def text(audit: Audit) -> str:
    """All of it, the verdict last."""
    return "\n".join([_by_layer(audit), *_excused(audit), *_left_out(audit), *_gaps(audit), "", verdict(audit)])


def verdict(audit: Audit) -> str:
    """One line."""
    if not audit.fair:
        return "nothing was audited: there is no mutant that any of these cases could tell from its layer"
    mutants, cases = {(one.layer, one.mutant) for one in audit.fair}, {one.case for one in audit.fair}
    if audit.passed:
        return f"no gap: each of {len(mutants)} wrong layers is noticed, and each of {len(cases)} cases notices one"
    missed, blind = len(audit.surviving_mutants), len(audit.blind_cases)
    return f"{missed} of {len(mutants)} wrong layers are noticed by no case; {blind} of {len(cases)} cases notice none"


def _by_layer(audit: Audit) -> str:
    rows = []
    for layer, seen in audit.by_layer():
        fair = [one for one in seen if one.excuse is None]
        missed = [mutant for name, mutant in audit.surviving_mutants if name == layer]
        rows.append(
            (
                layer,
                len({one.case for one in seen}),
                len({one.mutant for one in fair}) - len(missed),
                len({one.mutant for one in fair}),
                sum(one.noticed for one in fair),
                len(fair),
                len(seen) - len(fair),
            )
        )
    headers = ("layer", "cases", "mutants noticed", "of", "mutant_outcomes noticed", "of", "excused")
    return tabulate(rows, headers=headers)


def _excused(audit: Audit) -> Iterator[str]:
    reasons = Counter((one.layer, one.excuse) for one in audit.mutant_outcomes if one.excuse is not None)
    if reasons:
        rows = [(layer, count, reason) for (layer, reason), count in reasons.items()]
        yield "\nExcused, since no input could tell:\n" + tabulate(rows, headers=("layer", "times", "why"))


def _left_out(audit: Audit) -> Iterator[str]:
    reasons = Counter(audit.left_out.values())
    yield from (f"\n{count} cases were shown no mutant: {why}" for why, count in reasons.items())


def _gaps(audit: Audit) -> Iterator[str]:
    if audit.surviving_mutants:
        rows = [(layer, mutant, _named(cases)) for (layer, mutant), cases in audit.surviving_mutants.items()]
        yield "\nWrong layers that no case notices:\n" + tabulate(rows, headers=("layer", "mutant", "shown to"))
    if audit.blind_cases:
        blind = [(case, _named(_mutants_of(audit, case))) for case in audit.blind_cases]
        yield "\nCases that notice no wrong layer:\n" + tabulate(blind, headers=("case", "not noticed"))


def _mutants_of(audit: Audit, case: str) -> list[str]:
    return [one.mutant for one in audit.fair if one.case == case]


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST
    return ", ".join(names[:MOST]) + (f" and {more} more" if more > 0 else "")
